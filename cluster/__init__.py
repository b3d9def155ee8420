"""The Ray layer: the only home of ray. One file per stage; the mathematics lives in hyperface."""

import os
import secrets

# Ray reads these when it is imported, which every module of this package does. A Ray started in this process gets a
# token of its own: without one, ray.init() writes a token to the home directory, and later clusters want it. Not shown
# are complaints about a missing dashboard, which it does not have, and a warning of lost objects, which a Ray of one
# machine does not survive anyway.
if "RAY_ADDRESS" not in os.environ:
    noise = "Failed to query Ray Train Controller actor state|has constructor arguments in the object store"
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", noise)
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
