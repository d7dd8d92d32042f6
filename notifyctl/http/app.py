"""The application: its routes, and what stands around each of them."""

from fastapi import FastAPI

from notifyctl import __version__
from notifyctl.bootstrap import Runtime
from notifyctl.http import (
    clients,
    health,
    message_logs,
    metrics,
    middleware,
    notifications,
    otp,
    probes,
    receipts,
    stripe_webhook,
)
from notifyctl.http.errors import UnexpectedErrors, add_error_handlers
from notifyctl.http.head import HeadRequests
from notifyctl.http.middleware import BodyLimit
from notifyctl.http.pages.faults import PageErrors
from notifyctl.http.pages.site import add_pages
from notifyctl.http.reference import reference_router
from notifyctl.http.request_log import RequestLog
from notifyctl.http.security_headers import SecurityHeaders, security_headers


def create_app(runtime: Runtime, *, body_seconds: float = middleware.SECONDS) -> FastAPI:
    """`runtime` stays the caller's to close."""
    app = FastAPI(
        title="notifyctl",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.runtime = runtime
    for module in (otp, notifications, clients, message_logs, health, metrics, receipts, stripe_webhook, probes):
        app.include_router(module.router)
    app.include_router(reference_router(open_to_all=runtime.settings.http_docs))
    add_pages(app)
    add_error_handlers(app)
    # The one added last is the outermost.
    app.add_middleware(BodyLimit, seconds=body_seconds)
    app.add_middleware(UnexpectedErrors)
    app.add_middleware(PageErrors)
    app.add_middleware(SecurityHeaders, headers=security_headers(runtime.settings.public_base_url))
    app.add_middleware(RequestLog)
    app.add_middleware(HeadRequests)
    return app
