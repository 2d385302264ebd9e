"""Web pages and services for this machine: an ASGI application with access checks, served by uvicorn on a loopback
address.
"""
