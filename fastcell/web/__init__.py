"""Web pages and services of one machine: a guarded ASGI application, served by uvicorn on a loopback address."""
