"""An S3 server: moto, which checks the conditions of a write and then writes, made atomic as S3 is.

Usage: ``python s3.py PORT``
"""

import sys
import threading

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple

moto = DomainDispatcherApplication(create_backend_app)
lock = threading.Lock()


def application(environment, start_response):
    with lock:
        return moto(environment, start_response)


run_simple("127.0.0.1", int(sys.argv[1]), application, threaded=True, request_handler=MotoRequestHandler)
