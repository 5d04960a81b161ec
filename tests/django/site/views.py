"""What the site's pages do; a test of this process may say what a page of its own does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.contrib.auth import aauthenticate, alogin, alogout
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.template import engines

from .notes.models import Note

PAGE = """
{% for message in messages %}<p class="{{ message.tags }}">{{ message }}</p>{% endfor %}
<form method="post">{% csrf_token %}{{ form }}<button>Save</button></form>
<p>Signed in: {{ user.get_username }}, {{ request.session.visits|default:0 }} visits</p>
"""
hooks: dict[str, Callable[[HttpRequest], Any]] = {}  # what a test puts in the place of a page


class NoteForm(ModelForm):
    class Meta:
        model = Note
        fields = ("text",)


@login_required(login_url="/admin/login/")
def notes(request: HttpRequest) -> HttpResponse:
    form = NoteForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, f"Saved: {form.instance.text}")
        return redirect("/notes")
    template = engines["django"].from_string(PAGE)
    return HttpResponse(template.render({"form": form}, request))


def visit(request: HttpRequest) -> HttpResponse:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JsonResponse({"visits": request.session["visits"], "pid": os.getpid()})


def pid(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"pid": os.getpid()})


def whoami(request: HttpRequest) -> HttpResponse:
    data = {name: each for name, each in request.session.items() if name == "visits"}
    return JsonResponse({"user": request.user.get_username(), **data})


async def avisit(request: HttpRequest) -> HttpResponse:
    visits = await request.session.aget("visits", 0) + 1
    await request.session.aset("visits", visits)
    user = await request.auser()
    return JsonResponse({"visits": visits, "user": user.get_username()})


async def asign_in(request: HttpRequest) -> HttpResponse:
    asked = json.loads(request.body)
    user = await aauthenticate(request, **asked)
    if user is None:
        return JsonResponse({"error": "wrong"}, status=403)
    await alogin(request, user)
    return JsonResponse({"user": user.get_username()})


async def asign_out(request: HttpRequest) -> HttpResponse:
    await alogout(request)
    return JsonResponse({})


@transaction.atomic
def hooked(request: HttpRequest, name: str) -> Any:
    result = hooks[name](request)
    if isinstance(result, HttpResponse | StreamingHttpResponse):
        return result
    return JsonResponse(result, safe=False)


async def ahooked(request: HttpRequest, name: str) -> Any:
    result = await hooks[name](request)
    return result if isinstance(result, HttpResponse) else JsonResponse(result, safe=False)
