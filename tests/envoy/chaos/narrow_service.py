"""The service with room for fewer Checks at once, so that a test can fill it: `serve FILE`."""

import sys
from typing import Final

from ext_authz import grpc_server
from ext_authz.__main__ import main

ROOM: Final = 40

if __name__ == "__main__":
    setattr(grpc_server, "MAX_CONCURRENT_CHECKS", ROOM)  # noqa: B010 - to mypy it is Final
    sys.exit(main())
