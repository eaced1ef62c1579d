"""How a server says no: one JSON object, the same for every reason."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ferkit.errors import FerkitError


class Refusal(FerkitError):  # noqa: N818 - answering no is no error of ours
    """A request that is not answered: HTTP status, a word for programs, one line for people."""

    def __init__(self, status: int, code: str, message: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, str(self), headers or {}

    def to_dict(self) -> dict[str, Any]:
        return {"error": {"code": self.code, "message": self.message}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.to_dict(), self.status, self.headers)


def answer_problems(app: FastAPI) -> None:
    """Give every error of `app` this shape, also those of the framework."""

    @app.exception_handler(Refusal)
    async def refused(request: Request, problem: Refusal) -> JSONResponse:
        return problem.response()

    @app.exception_handler(HTTPException)
    async def of_framework(request: Request, problem: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed"}.get(problem.status_code, "refused")
        message = f"{request.method} {request.url.path[:200]}: {problem.detail}."
        return Refusal(problem.status_code, code, message, headers=dict(problem.headers or {})).response()

    @app.exception_handler(RequestValidationError)
    async def bad_parameter(request: Request, problem: RequestValidationError) -> JSONResponse:
        request.app.state.metrics.refusals.labels("bad_parameter").inc()
        first = problem.errors()[0]
        return Refusal(422, "bad_parameter", f"{first['loc'][-1]}: {first['msg']}.").response()

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, problem: Exception) -> JSONResponse:
        # What happened is logged by the server; the client gets no insight into it.
        return Refusal(500, "internal", "Something went wrong here; the server's log says what.").response()
