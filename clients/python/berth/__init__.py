"""Client of Berth, a server of large language models."""

from berth.async_pipeline import AsyncPipeline
from berth.client import Client, Connection
from berth.engine import EngineConfig, LocalServer
from berth.errors import (
    AccessError,
    BerthError,
    DeadlineError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    RequestCancelledError,
    ServerStartError,
    SessionError,
    UnavailableError,
    UnsupportedError,
)
from berth.generation import GenerationConfig, Response
from berth.pipeline import ChatSession, Pipeline, pipeline
from berth.session import Session

TurbomindEngineConfig = EngineConfig
"""LMDeploy's name."""

__all__ = [
    "AccessError",
    "AsyncPipeline",
    "BerthError",
    "ChatSession",
    "Client",
    "Connection",
    "DeadlineError",
    "EngineConfig",
    "GenerationConfig",
    "InvalidRequestError",
    "LocalServer",
    "NotFoundError",
    "OverloadedError",
    "Pipeline",
    "RequestCancelledError",
    "Response",
    "ServerStartError",
    "Session",
    "SessionError",
    "TurbomindEngineConfig",
    "UnavailableError",
    "UnsupportedError",
    "pipeline",
]
