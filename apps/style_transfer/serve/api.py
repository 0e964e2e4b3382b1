"""The application: the HTTP API, version 1, and the page that uses it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from fastapi import BackgroundTasks, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from PIL import Image
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from apps.style_transfer.serve.guard import Guard
from apps.style_transfer.serve.jobs import Job, Jobs
from apps.style_transfer.serve.limits import RefusedError
from apps.style_transfer.serve.orders import order_of, schema
from apps.style_transfer.serve.upload import drain, receive
from apps.style_transfer.serve.work import preview
from apps.style_transfer.style import gallery

PAGE = Path(__file__).parent / "page"
V1 = "/api/v1"
THUMBNAIL = 320


class Status(BaseModel):
    """A job: ``state`` is queued, running, done, failed or cancelled."""

    id: str
    state: str
    ahead: int
    step: int
    steps: int
    message: str
    seconds: float
    name: str | None
    width: int | None
    height: int | None
    bytes: int | None


class Named(BaseModel):
    """A style of the gallery, and where its picture is."""

    name: str
    title: str
    credit: str
    picture: str


class Health(BaseModel):
    """Whether the server is there, how many jobs wait or are at work, and its limits."""

    status: str
    jobs: int
    limits: dict[str, float]


class Fault(BaseModel):
    """What went wrong, in one line."""

    error: str


REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Fault, "description": "a broken form"},
    408: {"model": Fault, "description": "too slow an upload"},
    413: {"model": Fault, "description": "a file or a picture above the limits"},
    415: {"model": Fault, "description": "not multipart/form-data"},
    422: {"model": Fault, "description": "a field or a picture that cannot be used"},
    507: {"model": Fault, "description": "no room on the server's disk"},
    503: {"model": Fault, "description": "the queue is full: come again after Retry-After seconds"},
}
MISSING: dict[int | str, dict[str, Any]] = {404: {"model": Fault, "description": "no such job, or not yet"}}


def create_app(jobs: Jobs, *, hosts: frozenset[str] | None = None) -> FastAPI:
    """Return the application of a queue, which it closes when it ends; ``hosts`` as in :class:`Guard`."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(jobs.close)

    # The pages that FastAPI would offer load their scripts from elsewhere.
    app = FastAPI(
        title="unroll-style", version="1", docs_url=None, redoc_url=None, openapi_url=f"{V1}/openapi.json",
        lifespan=lifespan,
    )  # fmt: skip
    app.add_middleware(Guard, hosts=hosts)
    _add_errors(app)
    _add_jobs(app, jobs)
    _add_rest(app, jobs)
    return app


def _add_jobs(app: FastAPI, jobs: Jobs) -> None:
    styles = gallery()

    async def take(request: Request) -> Job:
        """Return the queued job of an upload. A slot is held before a byte is read, and freed by whatever fails."""
        job = None
        try:
            job = jobs.reserve()
            form = await receive(request, job.uploads, jobs.limits)
            order = await run_in_threadpool(order_of, form, jobs.limits, styles)
            jobs.submit(job, order)
            return job
        except BaseException as error:
            if job is not None:
                jobs.abandon(job)
            if isinstance(error, RefusedError) and error.status != 408 and "expect" not in request.headers:
                await drain(request)
            raise

    def status(job: Job) -> Status:
        made = job.result if job.state == "done" else None
        return Status(
            id=job.id,
            state=job.state,
            ahead=jobs.ahead(job),
            step=job.step,
            steps=job.steps,
            message=job.message,
            seconds=job.seconds,
            name=made and made.name,
            width=made and made.width,
            height=made and made.height,
            bytes=made and made.bytes,
        )

    @app.post(f"{V1}/jobs", status_code=202, responses=REFUSALS, openapi_extra=schema())
    async def create(request: Request, response: Response) -> Status:
        """Queue a picture. Ask for the job at least every two minutes until it has ended, else it is dropped."""
        job = await take(request)
        response.headers["Location"] = f"{V1}/jobs/{job.id}"
        return status(job)

    @app.get(f"{V1}/jobs/{{name}}", responses=MISSING)
    def show(name: str) -> Status:
        """Say how far a job is: ``ahead`` of it are so many, and ``step`` of ``steps`` are done (-1: none yet)."""
        return status(jobs.get(name))

    @app.get(f"{V1}/jobs/{{name}}/preview", responses=MISSING, response_class=FileResponse)
    def picture(name: str, step: int | None = None) -> FileResponse:
        """Return the picture after a step, the last by default, 0 the photograph, as a JPEG of at most 1280 pixels."""
        job = jobs.get(name)
        path = preview(job, job.step if step is None else step)
        if not 0 <= (job.step if step is None else step) <= job.step or not path.exists():
            raise RefusedError(404, "there is no picture of that step yet")
        return FileResponse(path, media_type="image/jpeg")

    def result_of(job: Job) -> FileResponse:
        if job.state == "failed":
            raise RefusedError(422, job.message)
        if job.state != "done":
            raise RefusedError(404, f"there is no result: the job is {job.state}")
        return FileResponse(job.result.path, filename=job.result.name)

    @app.get(f"{V1}/jobs/{{name}}/result", responses={**MISSING, 422: REFUSALS[422]}, response_class=FileResponse)
    def result(name: str) -> FileResponse:
        """Return the picture at full size, with the photograph's metadata."""
        return result_of(jobs.get(name))

    @app.delete(f"{V1}/jobs/{{name}}", responses=MISSING)
    def drop(name: str) -> Status:
        """Cancel a job that has not ended; forget one that has, with its files."""
        return status(jobs.drop(name))

    @app.post(f"{V1}/stylize", responses=REFUSALS, response_class=FileResponse, openapi_extra=schema())
    async def stylize(request: Request, later: BackgroundTasks) -> FileResponse:
        """Queue a picture, wait, and answer with it. Whoever hangs up has cancelled it."""
        job = await take(request)
        try:
            while job.live:
                if await request.is_disconnected():
                    raise ClientDisconnect
                await run_in_threadpool(jobs.get, job.id)
                await asyncio.sleep(0.1)
            response = result_of(job)
        except BaseException:
            jobs.abandon(job)
            raise
        later.add_task(jobs.abandon, job)
        return response


def _add_rest(app: FastAPI, jobs: Jobs) -> None:
    styles = gallery()

    @app.get(f"{V1}/styles")
    def list_styles() -> list[Named]:
        """List the styles of the gallery."""
        return [
            Named(name=name, title=entry.title, credit=entry.credit, picture=f"{V1}/styles/{name}/picture")
            for name, entry in styles.items()
        ]

    @cache
    def thumbnail(name: str) -> bytes:
        kept = BytesIO()
        with Image.open(styles[name].path) as picture:
            picture.thumbnail((THUMBNAIL, THUMBNAIL))
            picture.convert("RGB").save(kept, "jpeg", quality=85)
        return kept.getvalue()

    @app.get(f"{V1}/styles/{{name}}/picture", responses=MISSING, response_class=Response)
    def show_style(name: str) -> Response:
        """Return a small picture of a style, a JPEG."""
        if name not in styles:
            raise RefusedError(404, "there is no style of that name")
        return Response(thumbnail(name), media_type="image/jpeg", headers={"Cache-Control": "max-age=3600"})

    @app.get(f"{V1}/health")
    def health() -> Health:
        """Say that the server is there, how busy it is, and what its limits are."""
        return Health(status="ok", jobs=jobs.waiting, limits=asdict(jobs.limits))

    def serve(file: Path) -> Callable[[], FileResponse]:
        return lambda: FileResponse(file, headers={"Cache-Control": "no-cache"})

    for file in sorted(PAGE.iterdir()):
        path = "/" if file.name == "index.html" else f"/{file.name}"
        app.add_api_route(path, serve(file), include_in_schema=False, response_class=FileResponse)


def _add_errors(app: FastAPI) -> None:
    def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)
        headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
        return JSONResponse({"error": str(error)}, error.status, headers)

    def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        return JSONResponse({"error": f"{first['loc'][-1]}: {first['msg'].lower()}"}, 422)

    def gone(_: Request, __: Exception) -> Response:
        return Response(status_code=499)

    def failed(_: Request, __: Exception) -> Response:
        return JSONResponse({"error": "the server failed: its log says how"}, 500)

    app.add_exception_handler(RefusedError, refused)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Exception, failed)
