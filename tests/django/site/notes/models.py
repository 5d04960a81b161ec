"""A model of the site, with a form."""

from __future__ import annotations

from django.db import models


class Note(models.Model):
    """What a user wrote down."""

    text = models.CharField(max_length=80)

    class Meta:
        app_label = "notes"

    def __str__(self) -> str:
        return str(self.text)
