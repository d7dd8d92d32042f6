"""All pages, put into the application."""

from fastapi import FastAPI

from notifyctl.http.pages import dashboard, files, message
from notifyctl.http.pages.sign_in import FailedSignIns, router


def add_pages(app: FastAPI) -> None:
    app.state.failed_sign_ins = FailedSignIns()
    for pages in (router, dashboard.router, message.router, files.router):
        app.include_router(pages)
