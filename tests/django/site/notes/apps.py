from django.apps import AppConfig


class Notes(AppConfig):
    name = "tests.django.site.notes"
    label = "notes"
