# All of the peer's workers in one process, which is less than one process each.
import os

from buildbot_worker.bot import Worker
from twisted.application import service

application = service.Application("workers")
for i in range(int(os.environ["PEER_WORKERS"])):
    folder = os.path.join(os.environ["PEER_FOLDER"], f"w{i}")
    os.makedirs(folder, exist_ok=True)
    Worker("127.0.0.1", int(os.environ["PEER_PB"]), f"w{i}", "pass", folder, 3600).setServiceParent(application)
