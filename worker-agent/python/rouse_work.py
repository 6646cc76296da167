"""What rouse_agent.py does for a master: run programs, look after paths, move files. Marks like [§6] name the sections of
docs/reference/agent-protocol.md. Everything here runs on a command's own thread, which may wait."""
import collections, errno, fcntl, hashlib, http.client, os, pty, random, re, secrets, select, shutil, signal, socket, stat, struct, subprocess, sys
import tarfile, termios, time, urllib.parse
from contextlib import contextmanager, suppress

FRAME, FOREVER, LINUX, clock = 256 << 10, float("inf"), sys.platform.startswith("linux"), time.monotonic
def now(): return time.monotonic_ns() // 1000, time.time_ns() // 1000

class Failure(Exception):  # ends a command with an outcome of this kind [§6]
    def __init__(self, kind, **fields): super().__init__(fields.get("message")); self.kind = {kind: fields}
def user(message): return Failure("failed", message=message, **{"class": "user"})
def machine(message): return Failure("failed", message=message, **{"class": "infrastructure"})
def unstartable(message): return Failure("could_not_start", message=message)
def read_text(path):
    with suppress(OSError), open(path, errors="replace") as file: return file.read()
    return ""
def oom_kills():
    """How often the kernel has killed in our cgroup for want of memory, where it says so."""
    own = read_text("/proc/self/cgroup").rpartition("0::")[2].split("\n")[0]
    counts = re.search("^oom_kill ([0-9]+)", read_text(f"/sys/fs/cgroup{own}/memory.events") or read_text("/sys/fs/cgroup/memory.events"), re.M)
    return int(counts[1]) if counts else 0

def tree(chosen):
    """The chosen, of our children and of strays, and all below them: (pid, start) of what lives."""
    table, below, me = {}, collections.defaultdict(list), os.getpid()  # {pid: (parent, session, start, zombie)}
    for pid in filter(str.isdigit, os.listdir("/proc") if LINUX else ()):
        fields = read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
        if fields: table[int(pid)] = int(fields[1]), int(fields[3]), fields[19], fields[0] in "ZX"
    if not LINUX:  # groups in place of sessions: the same for all that do not make one of their own
        ps = subprocess.Popen(["ps", "-A", "-o", "pid=", "-o", "ppid=", "-o", "pgid=", "-o", "stat="], stdout=subprocess.PIPE)
        lines = (line.split() for line in ps.communicate()[0].splitlines())
        table = {int(pid): (int(parent), int(group), None, state[:1] == b"Z") for pid, parent, group, state, *_ in lines}
        table.pop(ps.pid, None)
    for pid, process in table.items(): below[process[0]].append(pid)
    found = [pid for pid, process in table.items() if pid != me and chosen(pid, process[1], process[0] == me)]
    for pid in found: found += below[pid]  # goes on over what it adds
    return {(pid, table[pid][2]) for pid in found if not table[pid][3]}
def children():
    """Those of the agent itself, at once where the kernel lists them."""
    tasks = os.listdir("/proc/self/task") if LINUX else ()
    return [int(pid) for task in tasks for pid in read_text(f"/proc/self/task/{task}/children").split()]
def kill(members, number):
    for pid, _ in members:
        with suppress(OSError): os.kill(pid, number)
    return members

def start(agent, command, args, script):
    """The process of a command, and our ends of its output: {fd: (channel, masker)}. [§6 run]"""
    tty, cwd, env, theirs, ours = args.get("tty"), agent.enter(args.get("cwd") or ""), dict(agent.environment), [], {}
    env.update({"TERM": "xterm-256color"} if tty else {}, **(args.get("env") or {}))
    env.update(agent.tags, ROUSE_WORKER=agent.join["worker"], ROUSE_COMMAND=str(command.id))
    for name, value in env.items():
        if not name or "=" in name or "\0" in name + (value or ""): raise unstartable(f"`{name}` or its value cannot be in an environment")
    env = {name: value for name, value in env.items() if value is not None}
    words = args["program"]["script"]["interpreter"] + [script] if script else args["program"]["argv"]
    name, path = words[0] if words else "", env.get("PATH", "")
    found = [os.path.join(cwd, folder, name) for folder in path.split(":") if folder]
    file = os.path.join(cwd, name) if "/" in name else next((file for file in found if os.path.isfile(file) and os.access(file, os.X_OK)), None)
    if not name: raise unstartable("the program's name is empty")
    if not file: raise unstartable(f"there is no program `{name}` in the worker's PATH ({path}): use an image that has it, or give its whole path")
    try:
        if tty:
            end, slave = pty.openpty(); theirs, ours = [slave] * 3, {end: (2, command.masker())}
            fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        else:
            (out, out_end), (err, err_end) = os.pipe(), os.pipe()
            theirs, ours = [os.open(os.devnull, os.O_RDONLY), out_end, err_end], {out: (0, command.masker()), err: (1, command.masker())}
        with agent.lock:  # so that the reaper knows of it when it ends
            child = subprocess.Popen(words, executable=file, cwd=cwd, env=env, stdin=theirs[0], stdout=theirs[1], stderr=theirs[2],
                                     start_new_session=True, preexec_fn=(lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)) if tty else None)
            child.returncode, agent.runs[child.pid], agent.childless = 0, command, False  # it is the reaper's, not this object's
            command.began = now(); agent.lock.notify_all()
        return child.pid, ours
    except (ValueError, OSError) as error:
        for fd in ours: os.close(fd)
        if isinstance(error, ValueError): raise unstartable("an argument holds a zero byte, or is no text")
        if error.errno in (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE): raise machine(f"the agent could not make a process: {error}")
        asks = read_text(file)[:200].split("\n")[0] if error.errno == errno.ENOENT and os.path.isfile(file) else ""
        raise unstartable(f"`{file}` cannot be run: {error.strerror}" + f"; its first line is `{asks}`" * asks.startswith("#!"))
    finally:
        for fd in set(theirs): os.close(fd)

def run(agent, command, args):
    """One process, from its start to the moment when nothing of it lives and its last byte is in the spool. [§6 run]"""
    script = agent.script(command.id, args["program"]["script"]["text"]) if "script" in args["program"] else None
    try:
        pid, ends = start(agent, command, args, script)
        try: return supervise(agent, command, args, pid, ends)
        finally:
            with agent.lock: agent.runs.pop(pid)
    finally:
        if script: os.unlink(script)
def supervise(agent, command, args, pid, ends):
    silence, last_read, ladder = args.get("silence_s") or FOREVER, clock(), dict({"interrupt_s": 5, "terminate_s": 5}, **(args.get("kill") or {}))
    total, silent, why, rungs, at, told, empty = clock() + (args.get("timeout_s") or FOREVER), clock() + silence, None, [], FOREVER, set(), 0
    def step(until):
        """Read what there is, or wait. Time in which there is no room to read counts against neither timeout."""
        nonlocal total, silent, last_read
        began, room = clock(), agent.room()
        for fd in select.select([command.waker] + list(ends if room else ()), [], [], None if until == FOREVER else max(0, until - began))[0]:
            try: data = os.read(fd, FRAME)
            except OSError: data = b""  # a terminal whose last user is gone
            if fd == command.waker: continue
            last_read, (channel, masker) = clock(), ends[fd]
            if data: silent = last_read + silence
            else: os.close(fd); ends.pop(fd)
            with agent.lock: agent.spool.append(args["stream"], channel, masker.push(data, last=not data)); agent.lock.notify_all()
            with suppress(OSError): LINUX and len(data) > FRAME // 16 and fcntl.fcntl(fd, 1031, 1 << 20)  # F_SETPIPE_SZ: it is busy
        if not room: total, silent = total + clock() - began, silent + clock() - began
    def owns(other, session, child):
        """Our process, its session, and of what came to the agent whatever says so or can be nobody else's."""
        if other == pid or session == pid: return True
        with agent.lock: runs = set(agent.runs)  # not while a process is being made, which is not among them yet
        return child and other not in runs and (len(runs) == 1 or f"\0ROUSE_COMMAND={command.id}\0" in "\0" + read_text(f"/proc/{other}/environ"))
    while not command.ended:
        if not why:
            room, moment = agent.room(), clock()
            if command.stopped.is_set(): why = {"stopped": {"reason": command.reason}}
            elif room and moment >= total: why = {"timed_out": {"after_s": args["timeout_s"]}}
            elif room and moment >= silent: why = {"silent": {"after_s": args["silence_s"]}}
            rungs = [rung for rung in ((signal.SIGINT, ladder["interrupt_s"]), (signal.SIGTERM, ladder["terminate_s"])) if why and rung[1] > 0]
            at = moment if why else min(total, silent) if room else FOREVER
        if why and clock() >= at:
            number, pause = rungs.pop(0) if rungs else (signal.SIGKILL, 0.05)
            kill(tree(owns), number); at = clock() + pause
        if not command.ended: step(at)
    # What it left behind may end by itself, is then terminated, then killed. A look may miss a process in the making, the kernel does not.
    terminate = clock() + (0 if why else 0.2); killing = terminate + (0 if why and not rungs else 1)
    while (empty < 4 or len(agent.runs) == 1) and clock() < killing + 30 and not agent.childless:
        # A look at everything takes too long for what forks on: each generation comes to the agent, and is hit there.
        if clock() >= killing: kill([(child, None) for child in children() if owns(child, None, True)], signal.SIGKILL)
        members = tree(owns); empty = 0 if members else empty + 1
        if clock() >= killing or clock() >= terminate and not told: told |= kill(members, signal.SIGKILL if clock() >= killing else signal.SIGTERM)
        step(clock() + (0.01 if members else 0.001))
    last_read = clock()  # the pipes end by themselves, unless somebody out of reach holds them
    while ends and (not agent.room() or clock() < last_read + 0.5): step(last_read + 0.5 if agent.room() else FOREVER)
    with agent.lock:
        for fd, (channel, masker) in ends.items(): os.close(fd); agent.spool.append(args["stream"], channel, masker.push(b"", last=True))
    status, usage = command.ended
    rss, cpu = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), int((usage.ru_utime + usage.ru_stime) * 1e6)
    command.known.update(leftovers=len(told), max_rss_bytes=rss, cpu_us=cpu)
    return why or ({"signalled": {"signal": os.WTERMSIG(status)}} if os.WIFSIGNALED(status) else {"exited": {"code": os.WEXITSTATUS(status)}})

def components(path, error=user):
    """The names of a relative path that cannot lead out, as far as its text goes. [§6 paths]"""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/"): raise error(f"`{path}` is absolute; paths are relative to the work directory")
    if ".." in parts or "\0" in path: raise error(f"`{path}` must not contain `..` or a zero byte")
    return parts
@contextmanager
def directory(base, parts, make=False):
    """A handle on what is below `base`, from handle to handle: no link is followed, whatever changes meanwhile."""
    fd = os.dup(base) if isinstance(base, int) else os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts:
            with suppress(FileExistsError): make and os.mkdir(part, dir_fd=fd)
            above, fd = fd, os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            os.close(above)
        yield fd
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP): raise
        raise user("a link or another thing that is no directory is on the way")
    finally: os.close(fd)
def opened(name, fd, flags="rb", mode=0o666):
    return open(name, flags, opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, mode, dir_fd=fd))
def remove(name, fd):
    with suppress(FileNotFoundError, IsADirectoryError, PermissionError): return os.unlink(name, dir_fd=fd)
    with suppress(FileNotFoundError), directory(fd, [name]) as here:
        for child in os.listdir(here): remove(child, here)
        os.rmdir(name, dir_fd=fd)
def walk(base, parts):
    """What is there and below it: (path from there, what the system says of it)."""
    with suppress(FileNotFoundError), directory(base, parts[:-1]) as fd:
        info = os.stat((parts or ["."])[-1], dir_fd=fd, follow_symlinks=False)
        yield "", info
        with directory(fd, parts[-1:] if stat.S_ISDIR(info.st_mode) else []) as top:
            for folder, folders, files, here in os.fwalk(".", dir_fd=top) if stat.S_ISDIR(info.st_mode) else ():
                for name in folders + files:
                    with suppress(FileNotFoundError):
                        yield os.path.normpath(os.path.join(folder, name)), os.stat(name, dir_fd=here, follow_symlinks=False)
def glob(text):
    """A glob as a regular expression for whole paths."""
    plain, depth, out = {"**/": "(?:[^/]+/)*", "/**": "(?:/.*)?", "**": ".*", "*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")", ",": "|"}, 0, ""
    for token in re.findall(r"(?:(?<=/)|^)\*\*/|/\*\*$|^\*\*$|\[[!^]?[^/][^]/]*\]|.", "/".join(components(text)), re.S):
        depth, negated = depth + (token == "{") - (token == "}"), token[1:2] in ("!", "^")
        if token[0] == "[" and token[1:]: out += "[^"[:1 + negated] + "".join(re.escape(c) if c != "-" else c for c in token[1 + negated:-1]) + "]"
        else: out += plain[token] if token in plain and (token != "," or depth > 0) else re.escape(token)
    try: return re.compile(out, re.S)
    except re.error as error: raise user(f"the glob `{text}` is none: {error}")
def shown(path): return os.fsencode(path).decode("utf-8", "replace")
def paths(agent, command, args):
    listings, left = [], [10_000, 1 << 20]  # entries, and bytes of names
    for (what, op), in (op.items() for op in args["ops"]):
        parts, pattern, entries = components(op["path"]), glob(op.get("glob") or ""), []
        try:
            if what != "list":
                with suppress(FileNotFoundError), directory(agent.work, parts[:-1] if what == "remove" else parts, make=what == "make") as fd:
                    for name in (parts[-1:] or os.listdir(fd)) if what == "remove" else (): remove(name, fd)
                continue
            for path, info in walk(agent.work, parts):
                if min(left) >= 0 and pattern.fullmatch(path) and (path or not pattern.pattern):
                    left, mode = [left[0] - 1, left[1] - len(os.fsencode(path))], stat.S_IFMT(info.st_mode)
                    kind = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}.get(mode, "other")
                    entries.append({"path": shown(path), "kind": kind, "size": info.st_size, "modified_s": int(info.st_mtime)})
        except (Failure, OSError) as error: raise user(f"{what} `{op['path']}`: {error}")
        cut = min(left) < 0
        listings.append({"entries": sorted(entries[:len(entries) - cut], key=lambda entry: entry["path"].encode()), "cut": cut})
    return {"paths_done": {"listings": listings}}

class Transfer:
    """Files, by HTTP beside the link. [§6 upload, download]"""
    def __init__(self, agent, command, args):
        self.agent, self.command, self.args, self.http, self.response, self.sum = agent, command, args, None, None, hashlib.sha256()
        self.moved = self.offset = self.skip = 0
    def abort(self):
        with suppress(OSError, AttributeError): self.http.sock.shutdown(socket.SHUT_RDWR)
    def request(self, method, path, headers, file=None, length=0):
        """One answer that is a success; what may become better is an OSError."""
        if self.http is None: self.http = http.client.HTTPConnection("rouse"); self.http.sock = self.agent.dial()
        if self.command.stopped.is_set(): raise OSError("stopped")
        self.http.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for header in dict({"Host": "rouse", "Authorization": "Bearer " + self.args["token"]}, **headers).items(): self.http.putheader(*header)
        self.http.endheaders()
        while length:
            piece = file.read(min(length, FRAME))
            if not piece: raise machine("a file became shorter while it was sent")
            self.http.send(piece)
            length, self.moved = length - len(piece), self.moved + len(piece)
        response = self.http.getresponse()
        if response.status // 100 == 2: return response
        text = response.read(400).decode("utf-8", "replace").strip()
        if response.status in (413, 422): raise user(text)
        raise (OSError if response.status in (408, 425, 429) or response.status >= 500 else machine)(f"the master answered {response.status}: {text}")
    def persist(self, attempt):
        pause, since, moved = 0.1, clock(), self.moved
        while True:
            try: return attempt()
            except (OSError, http.client.HTTPException) as error: why = error
            if self.http: self.http.close()
            self.http = self.response = None
            if self.moved > moved: pause, since, moved = 0.1, clock(), self.moved
            if clock() > since + 600: raise machine(f"the transfer got no further for 600 s: {why}")
            if self.command.stopped.wait(pause * random.uniform(0.5, 1)): raise Failure("stopped", reason=self.command.reason)
            pause = min(2 * pause, 5)
    def read(self, count):
        """The body of a download, without a break whatever happens to connections."""
        def attempt():
            if self.response is None:
                self.response = self.request("GET", self.args["url_path"], {"Range": f"bytes={self.offset}-"} if self.offset else {})
                self.skip = 0 if self.response.status == 206 else self.offset
            while True:
                data = self.response.read(min(count, FRAME))
                if not data and self.response.length: raise OSError("the connection broke")
                known, self.moved = min(self.skip, len(data)), self.moved + len(data)
                self.skip -= known
                if data[known:] or not data: return data[known:]
        data = self.persist(attempt)
        self.offset += len(data); self.sum.update(data)
        if not data and self.args.get("sha256") not in (None, self.sum.hexdigest()): raise machine("what came does not have the expected SHA-256")
        return data
    def download(self):
        to, unfinished, tar = self.args["to"], ".rouse-" + secrets.token_hex(8), self.args.get("unpack") == "tar"
        parts = components(to) + [""] * tar
        if not parts: raise user(f"`{to}` is the work directory, not a file")
        try:
            if self.args.get("clean"): paths(self.agent, self.command, {"ops": [{"remove": {"path": to}}]})
            with directory(self.agent.work, parts[:-1], make=True) as fd:
                try:
                    if tar: self.unpack(fd)
                    else:
                        with opened(unfinished, fd, "xb") as file: shutil.copyfileobj(self, file, FRAME)
                        os.rename(unfinished, parts[-1], src_dir_fd=fd, dst_dir_fd=fd)
                finally:
                    with suppress(FileNotFoundError): os.unlink(unfinished, dir_fd=fd)
        except (OSError, tarfile.TarError) as error: raise machine(f"`{to}`: {error}")
        return {"transferred": {"files": [{"path": to, "size": self.offset, "sha256": self.sum.hexdigest()}]}}
    def unpack(self, root):
        """The archive is hostile: nothing in it reaches out of the directory."""
        with tarfile.open(fileobj=self, mode="r|") as archive:
            for entry in archive:
                try:
                    *folder, name = components(entry.name) or [""]
                    target, up = [part for part in entry.linkname.split("/") if part not in ("", ".")], len(folder)
                    while entry.issym() and up and target[:1] == [".."]: target.pop(0); up -= 1
                    if entry.issym() and (entry.linkname[:1] in ("", "/") or ".." in target): raise user("is a link that leads out, or may")
                    if entry.issparse(): raise user("is a sparse file")
                    if not (entry.isdir() or name and (entry.isreg() or entry.issym() or entry.islnk())): raise user("is no file, directory or link")
                    with directory(root, folder + [name] * bool(entry.isdir() and name), make=True) as fd:
                        if entry.isdir(): continue
                        with suppress(FileNotFoundError): os.unlink(name, dir_fd=fd)
                        if entry.issym(): os.symlink(entry.linkname, name, dir_fd=fd)
                        elif entry.islnk():
                            with directory(root, components(entry.linkname)[:-1]) as there:
                                os.link(os.path.basename(entry.linkname), name, src_dir_fd=there, dst_dir_fd=fd, follow_symlinks=False)
                        else:
                            with opened(name, fd, "xb", entry.mode & 0o777) as file: shutil.copyfileobj(archive.extractfile(entry), file)
                            os.utime(name, (entry.mtime, entry.mtime), dir_fd=fd, follow_symlinks=False)
                except Failure as failure:
                    if "user" not in failure.kind.get("failed", {}).values(): raise
                    raise user(f"the archive is refused: entry `{shown(entry.name)}`: {failure}")
        while self.read(FRAME): pass  # to the very end, for the sum
    def upload(self):
        files, sent, left = {}, [], self.args["max_bytes"]
        for text in self.args["paths"]: self.collect(text, components(self.args.get("base_dir") or ""), files)
        if len(files) > 10_000 or sum(map(len, files)) > 1 << 20: raise user("one upload may have 10000 files, and 1 MiB of names")
        for name, parts in sorted(files.items()):
            digest, size = hashlib.sha256(), 0
            try:
                with directory(self.agent.work, parts[:-1]) as fd, opened(parts[-1], fd) as file:
                    for piece in iter(lambda: file.read(min(FRAME, left - size + 1)), b""): digest.update(piece); size += len(piece)
                    left -= size
                    if left < 0: raise user(f"the files are more than {self.args['max_bytes']} bytes, which is what may be uploaded")
                    self.put(self.args["url_path"].rstrip("/") + "/" + urllib.parse.quote(name), file, size, digest.hexdigest())
            except OSError as error: raise user(f"`{shown(name)}` cannot be read: {error}")
            sent.append({"path": shown(name), "size": size, "sha256": digest.hexdigest()})
        return {"transferred": {"files": sent}}
    def put(self, path, file, size, digest):
        tries = []
        def attempt():
            begin, headers = 0, {"Rouse-Sha256": digest}
            with suppress(Failure, ValueError):
                if tries: known = self.request("HEAD", path, {}); known.read(); begin = min(size, int(known.headers.get("Rouse-Received", 0)))
            tries.append(file.seek(begin))
            if begin: headers["Content-Range"] = f"bytes {begin}-{size - 1}/{size}" if begin < size else f"bytes */{size}"
            self.request("PUT", path, dict(headers, **{"Content-Length": str(size - begin)}), file, size - begin).read()
        self.persist(attempt)
    def collect(self, text, base, files):
        """What a path or glob means: the names that the master will see, each with its place below the work directory."""
        work, plain, pattern, before = self.agent.work, not re.search(r"[*?[{]", text), glob(text), len(files)
        own = components(text) if plain else []
        try:
            for path, info in walk(work, base + own):
                names = own + [name for name in path.split("/") if name]
                if plain or any(pattern.fullmatch("/".join(names[:n])) for n in range(len(names) + 1)):  # or lies in what matches
                    real = os.path.realpath(os.path.join(work, *base, *names))
                    if not (real + "/").startswith(work + "/") and os.path.exists(real): raise user("is a link that leads out of the work directory")
                    if os.path.isfile(real): files["/".join(names)] = os.path.relpath(real, work).split("/")
        except (Failure, OSError) as error: raise user(f"`{text}`: {error}")
        if len(files) == before and not self.args.get("optional") and not any(map(pattern.fullmatch, files)): raise user(f"`{text}` matches no file")
