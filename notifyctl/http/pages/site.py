"""All pages, put into the application."""

from fastapi import FastAPI

from notifyctl.http.pages import dashboard, files, message, sign_in


def add_to(app: FastAPI) -> None:
    app.state.failed_sign_ins = sign_in.FailedSignIns()
    for module in (sign_in, dashboard, message, files):
        app.include_router(module.router)
