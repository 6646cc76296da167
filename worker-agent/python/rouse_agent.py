#!/usr/bin/env python3
"""A second agent for Rouse: docs/reference/agent-protocol.md by Python's standard library alone. Marks like [§5] name its sections. Each command
has a thread, the link has two, and `Agent.lock` guards all that they share. Dense, so that it fits into 400 lines; README.md says what it lacks."""
import base64, bisect, hashlib, json, os, platform, queue, random, re, secrets, select, shutil, signal, socket, ssl, struct, sys, tempfile
import threading, time
from contextlib import nullcontext, suppress
sys.dont_write_bytecode = True  # nothing is left over, not even beside this file
import ed25519
from rouse_work import FOREVER, FRAME, LINUX, Failure, Transfer, clock, components, kill, machine, now, oom_kills, paths, read_text, run, tree
from rouse_work import unstartable

CONTROL, MEMORY, PIECE = 8 << 20, 32 << 20, 256  # PIECE: what a piece of output costs beside its bytes
TAGS = ["ROUSE_" + name for name in ("INSTALLATION", "ACCOUNT", "EPOCH", "POOL", "WORKER_ID", "TOKEN")]
PERSONAL = re.compile("(USER|LOGNAME|MAIL|SHELL|SHLVL|PWD|OLDPWD|_|DISPLAY|LS_COLORS|NOTIFY_SOCKET|INVOCATION_ID|JOURNAL_STREAM|LISTEN_FDS|LISTEN_PID"
                      "|TERM|(ROUSE|SSH|SUDO|XDG|DBUS)_.*)$")
DEFAULTS = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "CI": "true"}
TOOLS = "sh", "bash", "git", "tar", "python3", "make", "cc", "docker", "node", "cargo"

class LinkError(Exception):  # ends a connection, with a close code where the master is told; with a status the agent too [§1, §2]
    def __init__(self, why, code=None, status=None): super().__init__(why); self.code, self.status = code, status
class Masker:
    """Makes each byte of each secret `*`, however reads split it; what may become a secret is held back. [§5]"""
    def __init__(self, values):
        words = {value.encode() for value in values}
        for lines in [[line.strip() for line in word.split(b"\n") if line.strip()] for word in words if b"\n" in word]:
            words.update(line for line in lines if len(lines) == 1 or len(line) >= 4)
        self.words, self.held, self.covered = sorted(words - {b""}), b"", 0  # `covered`: so much of `held` ends a secret that is out
    def push(self, data, last=False):
        text, cut, reach = self.held + data, len(self.held) + len(data), self.covered
        for word in () if last else self.words:
            at = text.find(word[:1], max(0, len(text) - len(word) + 1), cut)
            while at >= 0 and not word.startswith(text[at:]): at = text.find(word[:1], at + 1, cut)
            cut = at if at >= 0 else cut
        out = bytearray(text); out[:reach] = b"*" * reach
        for word in self.words:
            at = text.find(word)
            while 0 <= at < cut: out[at:at + len(word)], reach, at = b"*" * len(word), max(reach, at + len(word)), text.find(word, at + 1)
        self.held, self.covered = text[cut:], max(0, reach - cut)
        return bytes(out[:cut])
    def text(self, text, most=1 << 20): return self.push(text.encode("utf-8", "replace"), last=True)[:most].decode("utf-8", "ignore")

class Stream:
    """The bytes [start, end) of one command's output, sent up to `sent` on this connection; a piece is (channel, time, bytes)."""
    def __init__(self): self.start = self.end = self.sent = 0; self.pieces, self.ends = [], []
class Spool:
    """The bytes that are not durable yet: all in memory, so fewer than a master allows on a disk. [§5]"""
    def __init__(self): self.streams, self.limit, self.used = {}, MEMORY, 0
    def append(self, number, channel, data):
        stream, at = self.streams.get(number), now()[0]
        for part in (data[i:i + FRAME] for i in range(0, len(data), FRAME)) if stream else ():  # what is forgotten is wanted by nobody
            stream.end += len(part); self.used += len(part) + PIECE
            stream.pieces.append((channel, at, part)); stream.ends.append(stream.end)
    def durable(self, number, to):
        stream = self.streams.get(number) or Stream()
        stream.start = max(stream.start, min(to, stream.end)); stream.sent = max(stream.sent, stream.start)
        gone = bisect.bisect_right(stream.ends, stream.start)
        self.used -= sum(PIECE + len(piece[2]) for piece in stream.pieces[:gone])
        del stream.pieces[:gone], stream.ends[:gone]
    def next_frame(self):
        for number, stream in self.streams.items():
            if stream.sent < stream.end:
                at, offset = bisect.bisect_right(stream.ends, stream.sent), stream.sent
                (channel, at_us, data), stream.sent = stream.pieces[at], stream.ends[at]
                self.streams[number] = self.streams.pop(number)  # the streams take turns
                return struct.pack(">BBqQQ", 1, channel, number, offset, at_us) + data[offset - stream.sent:]

def dial(endpoint):
    """A socket to a master's listener. [§2]"""
    kind, where = next(iter(endpoint.items()))
    if kind == "tls":
        context, (host, _, port) = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), where["address"].rpartition(":")
        context.load_verify_locations(cadata=where["ca"] or "none")
        return context.wrap_socket(socket.create_connection((host.strip("[]"), int(port)), 10), server_hostname=host.strip("[]"))
    sock = socket.socket(socket.AF_UNIX); sock.settimeout(10)
    sock.connect(where["path"])
    return sock
class Socket:
    """A WebSocket (RFC 6455), the client's side. [§2]"""
    def __init__(self, endpoint):
        self.sock, self.buffer, self.patience, self.heard, self.lock = dial(endpoint), bytearray(), 30, lambda: None, threading.Lock()
        self.reading, key, head = self.lock if isinstance(self.sock, ssl.SSLSocket) else nullcontext(), base64.b64encode(secrets.token_bytes(16)), b""
        self.sock.settimeout(self.patience)
        self.sock.sendall(b"GET /agent/v1 HTTP/1.1\r\nHost: rouse\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                          b"Sec-WebSocket-Key: " + key + b"\r\n\r\n")
        while not head.endswith(b"\r\n\r\n") and len(head) < 16384: head += self.take(1)
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        if not head.startswith(b"HTTP/1.1 101 ") or accept not in head: raise LinkError("what answers is no master's listener")
    def take(self, count):
        while len(self.buffer) < count:
            ready = isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() or select.select([self.sock], [], [], self.patience)[0]
            if not ready: raise LinkError(f"the master was silent for {self.patience} s")
            with self.reading: more = self.sock.recv(FRAME)  # TLS cannot be written meanwhile
            if not more: raise LinkError("the master closed the link")
            self.heard()
            self.buffer += more
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken
    def receive(self):
        """The next control message: its kind and its fields."""
        kind, whole = 0, b""
        while True:
            first, second = self.take(2)
            opcode, length, final = first & 15, second & 127, first & 128
            if length > 125: length = int.from_bytes(self.take(2 if length == 126 else 8), "big")
            fair = opcode in ((8, 9, 10) if opcode > 7 else (0,) if kind else (1, 2)) and (opcode < 8 or final and length < 126)
            if not fair or first & 0x70 or second & 128 or len(whole) + length > CONTROL: raise LinkError("the master broke the protocol", 4000)
            data = self.take(length)
            if opcode >= 8:
                if opcode < 10: self.send(opcode ^ 3 if opcode == 9 else 8, data)  # a pong, or its own close
                if opcode == 8: raise LinkError("the master closed the link")
                continue
            kind, whole = kind or opcode, whole + data
            if final and kind == 1: return whole.decode()
            if final: kind, whole = 0, b""  # binary frames mean nothing yet
    def send(self, opcode, data):
        size, mask, first = len(data), secrets.token_bytes(4), 128 | opcode
        head = struct.pack(">BB", first, 128 | size) if size < 126 else struct.pack(">BBH", first, 254, size) if size < 65536 else None
        head = head or struct.pack(">BBQ", first, 255, size)
        masked = int.from_bytes(data, "little") ^ int.from_bytes((mask * (size // 4 + 1))[:size], "little")
        with self.lock: self.sock.sendall(head + mask + masked.to_bytes(size, "little"))
    def say(self, kind, **fields): self.send(1, json.dumps({kind: fields}).encode())

class Command:
    def __init__(self, id, action, masks=(), **_):
        (self.action, self.args), = action.items()
        self.perform = {"run": run, "paths": paths, "upload": Transfer.upload, "download": Transfer.download}[self.action]
        self.id, self.masks, self.stream, self.known = id, masks, self.args["stream"] if self.action == "run" else None, {}
        self.stopped, self.wake, self.abort, self.reason, self.unwanted, self.ended = threading.Event(), lambda: None, lambda: None, "", False, None
        self.began, self.outcome, self.told = None, None, 0  # told on this connection: 1 started, 2 finished
    def masker(self): return Masker(self.masks)
    def stop(self, reason):
        if not self.stopped.is_set(): self.reason = reason; self.stopped.set(); self.wake(); self.abort()
    def finish(self, kind, streams=()):
        for fields in kind.values():  # messages and names are masked as output is
            if "message" in fields: fields["message"] = self.masker().text(fields["message"], 4096)
            entries = sum((listing["entries"] for listing in fields.get("listings", [])), fields.get("files", []))
            for entry in entries if self.masks else (): entry["path"] = self.masker().text(entry["path"])
        (start, start_wall), (end, end_wall), times = self.began or now(), now(), ("started_us", "started_wall_us", "finished_us", "finished_wall_us")
        self.outcome = dict(self.known, kind=kind, streams=list(streams), **dict(zip(times, (start, start_wall, end, end_wall))))

class Agent:
    """Everything is held as a level, and said in each hello. [§3, §4, §7]"""
    def __init__(self, join, work, private):
        self.join, self.work, self.private, self.prefix, self.lock = join, work, private, secrets.token_hex(4), threading.Condition()
        self.secret, self.incarnation, self.seen = secrets.token_bytes(32), secrets.token_hex(16), (join["store_epoch"], 0)
        self.commands, self.forgotten, self.runs, self.spool, self.childless = {}, {}, {}, Spool(), True
        self.draining, self.drained, self.session, self.ended = False, False, None, queue.SimpleQueue()
        self.expiry, self.heard, self.held = join["expiry_s"], clock(), 0
        self.tags = {name: os.environ[name] for name in TAGS if name in os.environ}
        self.environment = dict(DEFAULTS, **{name: value for name, value in os.environ.items() if not PERSONAL.match(name)})
        home, limit = self.environment.get("HOME", ""), read_text("/sys/fs/cgroup/memory.max").strip()
        if not (os.path.isdir(home) and os.access(home, os.W_OK)): self.environment["HOME"] = work
        all_memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self.facts = {"cpus": os.cpu_count() or 1, "memory_bytes": min(all_memory, int(limit) if limit.isdigit() else all_memory), "uid": os.getuid(),
                      "hostname": platform.node(), "tools": [tool for tool in TOOLS if shutil.which(tool)]}
    def room(self): return self.spool.used < self.spool.limit
    def script(self, id, text):
        os.makedirs(self.private, 0o700, exist_ok=True)
        path = os.path.join(self.private, f"{self.prefix}-script-{id}")
        with open(path, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file: file.write(text.encode())
        return path
    def enter(self, relative):
        path = self.work
        for part in components(relative, unstartable):
            path = os.path.realpath(os.path.join(path, part))
            if not (path + "/").startswith(self.work + "/"): raise unstartable(f"directory `{relative}` leads out of the work directory")
            try: os.makedirs(path, exist_ok=True)
            except OSError as error: raise unstartable(f"directory `{relative}` cannot be made or entered: {error.strerror}")
        return path
    def dial(self):
        for endpoint in self.join["endpoints"]:
            try: sock = dial(endpoint); sock.settimeout(60); return sock
            except (OSError, ValueError) as error: why = error
        raise OSError(str(why))
    def reap(self):
        """A thread: collects what ends, and knows when there is no child any more."""
        while True:
            try: pid, *ended = os.wait4(-1, 0)
            except ChildProcessError: pid = 0
            with self.lock:
                if pid in self.runs: self.runs[pid].ended = ended; self.runs[pid].wake()
                self.childless = not pid and all(command.ended for command in self.runs.values())
                self.lock.wait_for(lambda: not self.childless)
    def perform(self, command):
        """A thread of each command."""
        (command.waker, waking), kills = os.pipe(), oom_kills()
        os.set_blocking(waking, False)
        def wake():
            with suppress(OSError): os.write(waking, b".")
        command.wake = wake
        try:
            if command.action in ("upload", "download"): how = [Transfer(self, command, command.args)]; command.abort = how[0].abort
            else: how = [self, command, command.args]
            with self.lock: command.began = None if command.action == "run" else now(); self.lock.notify_all()
            kind = command.perform(*how)
        except Failure as failure: kind = failure.kind
        except Exception as error: kind = machine(f"the agent failed: {error!r}").kind
        with self.lock:
            command.known["oom_killed"], stream = oom_kills() > kills, self.spool.streams.get(command.stream)
            command.finish(kind, [{"stream": command.stream, "to": stream.end}] if stream else [])
            if command.unwanted: self.drop(command)
            command.wake = lambda: None
            os.close(command.waker); os.close(waking); self.lock.notify_all()
    def drop(self, command):
        self.forgotten[self.commands.pop(command.id).id] = None
        if len(self.forgotten) > 65536: self.forgotten.pop(next(iter(self.forgotten)))

    # What a master says [§4]; under the lock.
    def on_run(self, command, **_):
        command = Command(**command)
        if command.id in self.commands: return
        why = self.draining and "the worker is draining" or len(self.commands) >= 1000 and "the agent holds too many commands"
        why = command.id in self.forgotten and "it ran before and was forgotten" or why
        self.commands[command.id] = command
        if why: return command.finish(machine("the agent did not run the command: " + why).kind)
        if command.stream is not None: self.spool.streams.setdefault(command.stream, Stream())
        threading.Thread(target=self.perform, args=[command], daemon=True).start()
    def on_forget(self, commands, **_):
        for command in [self.commands[id] for id in commands if id in self.commands]:
            self.on_durable(command.stream, FOREVER)
            self.spool.streams.pop(command.stream, None)
            command.unwanted = True
            if command.outcome: self.drop(command)
            else: command.stop("forgotten by the master")
    def on_durable(self, stream, to, **_):
        room = self.room()
        self.spool.durable(stream, to)
        for command in self.commands.values() if self.room() and not room else (): command.wake()
    def on_stop(self, command, reason, **_): command in self.commands and not self.commands[command].outcome and self.commands[command].stop(reason)
    def on_drain(self, on, **_): self.draining, self.drained = on, False
    def on_end(self, reason, **_): raise LinkError(f"ended by the master: {reason}", 4004, 0)
    def on_hold(self, until_s, **_): self.held = clock() + until_s if until_s else 0
    def on_heartbeat(self, **_): pass
    def on_refused(self, message, retry, **_): raise LinkError(f"refused by the master: {message}", None, None if retry else 3)
    def on_welcome(self, store_epoch, term, expiry_s, heartbeat_s, grace_s, durable=(), run=(), forget=(), drain=False, spool_bytes=None, **_):
        self.check_age(store_epoch, term)
        self.seen, self.heard, self.expiry, self.heartbeat, self.session.patience = (store_epoch, term), clock(), expiry_s, heartbeat_s, grace_s
        self.session.heard, self.spool.limit = lambda: setattr(self, "heard", clock()), min(spool_bytes or MEMORY, MEMORY)
        for stream in durable: self.on_durable(**stream)
        self.on_drain(drain)
        self.on_forget(forget)
        for command in run: self.on_run(command)
    def on_challenge(self, versions, nonce, installation, store_epoch, term, **_):
        join, signed, commands, streams, room = self.join, b"rouse-agent-link-v1\0", [], [], 1 << 20
        if installation != join["installation"]: raise LinkError(f"the master is of installation {installation}", 4003)
        self.check_age(store_epoch, term)
        if 1 not in versions: raise LinkError(f"the master speaks versions {versions} of the protocol, this agent 1", 4002)
        for text in (nonce, installation, join["worker"], self.incarnation): signed += len(text.encode()).to_bytes(8, "big") + text.encode()
        for command in self.commands.values():
            room -= len(json.dumps(command.outcome))
            command.told = 2 if command.outcome and room >= 0 else 1 if command.began else 0
            commands.append({"id": command.id, "state": {"finished": command.outcome} if command.told == 2 else {"running": {}}})
        for number, stream in self.spool.streams.items():
            stream.sent = stream.start
            streams.append({"stream": number, "from": stream.start, "to": stream.end})
        (monotonic_us, wall_us), self.drained = now(), False
        self.session.say(
            "hello", version=1, agent="rouse_agent.py 1", os=platform.system().lower(), arch=platform.machine(), worker=join["worker"],
            worker_id=join["worker_id"], incarnation=self.incarnation, public_key=ed25519.public_key(self.secret).hex(),
            join_token=join["join_token"], signature=ed25519.sign(self.secret, signed).hex(), epoch=self.seen[0], term=self.seen[1],
            features=["pty", "put-range", "tar"], facts=self.facts, monotonic_us=monotonic_us, wall_us=wall_us, draining=self.draining,
            commands=commands, streams=streams)
    def check_age(self, *pair):
        if pair < self.seen: raise LinkError(f"the master is older (store epoch, term) than one seen before: {pair} < {self.seen}", 4001)
    def hear(self, *expected):
        """Do what comes, and say whether that was something: kinds that are not known mean nothing."""
        try:
            (kind, fields), = json.loads(self.session.receive()).items()
            if not hasattr(self, "on_" + kind): return False
            if kind not in expected: raise ValueError(f"{kind} out of turn")
            with self.lock: getattr(self, "on_" + kind)(**fields); self.lock.notify_all()
            return True
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise LinkError(f"the master said what cannot be understood: {error!r}", 4000)

    # The link: a thread that listens, and for each connection one that speaks.
    def attend(self, endpoint):
        self.session = session = Socket(endpoint)
        speaker = threading.Thread(target=self.speak, args=[session], daemon=True)
        try:
            while not self.hear("challenge"): pass
            while not self.hear("welcome", "refused"): pass
            speaker.start()
            while True: self.hear("run", "forget", "durable", "stop", "drain", "end", "hold", "heartbeat")
        except LinkError as error:
            with suppress(OSError):
                if error.code: session.sock.settimeout(0.5); session.send(8, struct.pack(">H", error.code) + str(error).encode()[:120])
            raise
        finally:
            with self.lock: self.session = None; self.lock.notify_all()
            with suppress(OSError): session.sock.shutdown(socket.SHUT_RDWR)
            if speaker.ident: speaker.join()
            session.sock.close()
    def next(self):
        """What is to be said now; a command's end after its last byte."""
        for command in self.commands.values():
            stream = self.spool.streams.get(command.stream)
            if command.outcome and command.told < 2 and (not stream or stream.sent == stream.end):
                command.told = 2; return "finished", {"command": command.id, "outcome": command.outcome}
            if command.began and not command.outcome and not command.told:
                command.told = 1; return "started", {"command": command.id, "at_us": command.began[0], "wall_us": command.began[1]}
        frame = self.spool.next_frame()
        if not frame and self.draining and not self.drained and not self.commands: self.drained = True; return "drained", {}
        return ("", frame) if frame else None
    def speak(self, session):
        due = 0  # a heartbeat at once does no harm
        with suppress(OSError):
            while True:
                with self.lock:
                    said = self.next() or (("heartbeat", {}) if clock() >= due else None)
                    if not said: self.lock.wait(due - clock())
                    if self.session is not session: return
                if not said: continue
                due = clock() + self.heartbeat
                if said[0]: session.say(said[0], **said[1])
                else: session.send(2, said[1])
        with suppress(OSError): session.sock.shutdown(socket.SHUT_RDWR)
    def link(self):
        pause, complaint = 0.05, ""
        while True:
            for endpoint in self.join["endpoints"]:
                before = self.heard
                try: self.attend(endpoint)
                except (LinkError, OSError, ValueError) as error: why, status = str(error), getattr(error, "status", None)
                except Exception as error: why, status = f"a fault: {error!r}", 1
                if status is not None: return self.ended.put((status, why))
                if self.heard != before: pause, complaint = 0.05, ""
                if why != complaint: print(f"rouse-agent: {why}; trying again", file=sys.stderr, flush=True)  # the same trouble is told once
                complaint = why
            time.sleep(pause * random.uniform(0.5, 1)); pause = min(2 * pause, 2)
    def live(self):
        """Until a master, the dead-man or a signal ends it; nothing below the agent outlives it."""
        for thread in (self.reap, self.link): threading.Thread(target=thread, daemon=True).start()
        for number in (signal.SIGTERM, signal.SIGINT): signal.signal(number, lambda *_: self.ended.put((5, "ended by a signal")))
        while True:
            left = max(self.heard + self.expiry, self.held) - clock()
            with suppress(queue.Empty): status, why = self.ended.get(timeout=max(0, min(left, 1))); break
            if left <= 0: status, why = 4, "no master was heard for too long"; break
        self.lock.acquire()  # from here on nothing is started, and nothing is said
        until, alive = clock() + 5, True
        while alive and clock() < until:
            alive = kill(tree(lambda pid, session, child: child or session in self.runs), signal.SIGKILL)
            with suppress(ChildProcessError): alive = os.wait4(-1, os.WNOHANG) and True
            time.sleep(0.005)
        with suppress(OSError):
            for name in os.listdir(self.private): name.startswith(self.prefix) and os.unlink(os.path.join(self.private, name))
            os.rmdir(self.private)
        return status, why

def main(words):
    flags = dict(zip(words[1::2], words[2::2]))
    if words[:1] != ["run"] or "--join" not in flags or len(words) % 2 == 0 or set(flags) - {"--join", "--work", "--state"}:
        return 2, "usage: rouse_agent.py run --join FILE [--work DIR] [--state DIR]"
    if LINUX:
        import ctypes
        for option, value in ((4, 0), (36, 1)): ctypes.CDLL(None).prctl(option, value, 0, 0, 0)  # PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER
    for number in (signal.SIGHUP, signal.SIGQUIT):  # ignored or not: commands begin with default signals
        if signal.getsignal(number) == signal.SIG_IGN: signal.signal(number, lambda *_: None)
    try:
        with open(flags["--join"]) as file: join = json.load(file)
        with suppress(OSError): os.unlink(flags["--join"])
        if join["version"] != 1 or not join["endpoints"]: raise ValueError("it names no endpoint, or is of another version")
        for endpoint in join["endpoints"]:
            if "unix" in endpoint: endpoint["unix"]["path"] = os.path.join(os.path.dirname(flags["--join"]), endpoint["unix"]["path"])
        os.makedirs(flags.get("--work") or join["work_dir"], exist_ok=True)
        work = os.path.realpath(flags.get("--work") or join["work_dir"])
        places = os.path.dirname(work) + "/.rouse-agent", work + "/.rouse-agent", f"{tempfile.gettempdir()}/.rouse-agent-{os.getpid()}"
        for private in [flags["--state"]] if "--state" in flags else places:
            with suppress(OSError): os.makedirs(private, 0o700, exist_ok=True)
            if os.access(private, os.W_OK): break
        agent = Agent(join, work, private)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error: return 2, f"the join document cannot be used: {error!r}"
    return agent.live()

if __name__ == "__main__":
    status, why = main(sys.argv[1:])
    print(f"rouse-agent: {why}", file=sys.stderr, flush=True)
    os._exit(status)
