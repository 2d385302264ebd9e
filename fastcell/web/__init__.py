"""Web pages for this machine: an ASGI application with access checks, served by uvicorn on a loopback address."""
