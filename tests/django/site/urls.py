from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI
from ninja.security import django_auth

from . import views

api = NinjaAPI()


@api.get("/me", auth=django_auth)
def me(request: HttpRequest) -> dict[str, str]:
    return {"user": request.user.get_username()}


urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/", api.urls),
    path("notes", views.notes),
    path("visit", views.visit),
    path("pid", views.pid),
    path("whoami", views.whoami),
    path("avisit", views.avisit),
    path("asign-in", csrf_exempt(views.asign_in)),
    path("asign-out", csrf_exempt(views.asign_out)),
    path("hooked/<name>", csrf_exempt(views.hooked)),
    path("ahooked/<name>", csrf_exempt(views.ahooked)),
]
