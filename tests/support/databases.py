"""Database servers for the tests: PostgreSQL and MariaDB, on loopback, in temporary folders.

Neither runs as root, so where the tests do, the servers are started for another user of the system.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import psycopg
import pymysql

from tests.support.processes import ServerMissing, ServerProcess, free_port

START_LIMIT = 60.0
STOP_LIMIT = 30.0
PASSWORD = "s3cret/of:the#database"
QUOTED = "s3cret%2Fof%3Athe%23database"


class Database(ServerProcess):
    """A server in a folder of its own; `restart` comes back on the same port, with its data."""

    program: str
    user: str

    def __init__(self, *options: str) -> None:
        self.options = options
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="sharedsession-sql-"))
        self.data = self.folder / "data"
        self.log = self.folder / "log"

    def start(self) -> Self:
        try:
            if not self.data.exists():
                self.folder.chmod(0o755)
                if os.getuid() == 0:
                    shutil.chown(self.folder, _somebody(self.user))
                self.make()
            self._launch()
            self.prepare()
        except BaseException:
            self.stop()
            raise
        return self

    def make(self) -> None:
        """Make the data folder."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """Return the server's command line."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Make the user and the database of the tests."""
        raise NotImplementedError

    def connect(self) -> Any:
        """Return a connection of an administrator, which commits by itself."""
        raise NotImplementedError

    def execute(self, statement: str) -> list[Any]:
        """Run one statement as the administrator and return its rows."""
        connection = self.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def end(self) -> None:
        """End it in an orderly way: whoever is connected is sent away."""
        if self._process is not None:
            self._process.send_signal(self.polite)
            try:
                self._process.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    polite = signal.SIGTERM

    def restart(self) -> None:
        self.end()
        self._launch()

    def run(self, *words: str | Path) -> None:
        """Run a command that makes the data folder."""
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            cwd=self.folder,
            user=_somebody(self.user) if os.getuid() == 0 else None,
        )
        if done.returncode:
            raise ServerMissing(f"{words[0]} failed: {done.stdout.decode()[-500:]}")

    def _launch(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                user=_somebody(self.user) if os.getuid() == 0 else None,
            )
        limit = time.monotonic() + START_LIMIT
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > limit:
                raise ServerMissing(f"{self.program} did not start: {self._last_words()}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except (psycopg.Error, pymysql.Error, OSError):
            return False
        return True

    def _numbers(self) -> list[int]:
        """PostgreSQL has a process for each connection."""
        return [child for own in super()._numbers() for child in _family(own)]

    def _signal(self, number: int) -> None:
        for process in self._numbers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace")[-500:] if self.log.exists() else "no log"


class PostgreSQL(Database):
    """PostgreSQL; the user ``app`` owns the database ``app`` and may do what applications do."""

    program = "postgres"
    user = "postgres"
    polite = signal.SIGINT  # "fast": transactions are rolled back and clients sent away

    @property
    def url(self) -> str:
        return f"postgresql://app:{QUOTED}@127.0.0.1:{self.port}/app"

    @property
    def asyncpg_url(self) -> str:
        return self.url.replace("postgresql:", "postgresql+asyncpg:")

    def make(self) -> None:
        words = "--username=root --auth=trust --encoding=UTF8 --locale=C --no-sync".split()
        self.run(postgresql_program("initdb"), *words, "-D", self.data)

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "full_page_writes": "off",
            "shared_buffers": "32MB",
            "password_encryption": "md5",  # the other one costs milliseconds per connection
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [
            str(postgresql_program("postgres")),
            "-D",
            str(self.data),
            "-p",
            str(self.port),
            *words,
        ] + [word for option in self.options for word in ("-c", option)]

    def prepare(self) -> None:
        if self.execute("SELECT 1 FROM pg_roles WHERE rolname = 'app'"):
            return
        self.execute(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
        self.execute("CREATE DATABASE app OWNER app")
        rules = self.data / "pg_hba.conf"
        rules.write_text(
            "local all all trust\nhost all,replication root 127.0.0.1/32 trust\n"
            "host all all 127.0.0.1/32 md5\n"
        )
        self.execute("SELECT pg_reload_conf()")

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        return psycopg.connect(
            f"host=127.0.0.1 port={self.port} user=root dbname={database} connect_timeout=10",
            autocommit=True,
        )

    def in_app(self, statement: str) -> list[Any]:
        """Run one statement in the database of the tests."""
        with self.connect("app") as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


class Standby(PostgreSQL):
    """A replica that reads only; it follows a server that it reaches through ``port``."""

    def __init__(self, port: int, *options: str) -> None:
        super().__init__("wal_retrieve_retry_interval=200ms", *options)
        self._primary = port

    def make(self) -> None:
        words = f"--host=127.0.0.1 --port={self._primary} --username=root".split()
        more = "--checkpoint=fast --no-sync --write-recovery-conf".split()
        self.run(postgresql_program("pg_basebackup"), *words, *more, "-D", self.data)

    def prepare(self) -> None:
        pass


class PgBouncer(Database):
    """A pooler in front of PostgreSQL: each transaction on whichever connection is free."""

    program = "pgbouncer"
    user = "postgres"

    def __init__(self, server: PostgreSQL) -> None:
        super().__init__()
        self._server = server
        self.url = server.url.replace(f":{server.port}/", f":{self.port}/")

    def make(self) -> None:
        self.data.mkdir()
        (self.data / "users").write_text(f'"app" "{PASSWORD}"\n')
        (self.data / "settings").write_text(
            f"[databases]\napp = host=127.0.0.1 port={self._server.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\n"
            "unix_socket_dir =\npool_mode = transaction\ndefault_pool_size = 3\n"
            f"auth_type = md5\nauth_file = {self.data / 'users'}\nserver_login_retry = 1\n"
        )

    def command(self) -> list[str]:
        return [str(_find("pgbouncer", "pgbouncer")), str(self.data / "settings")]

    def prepare(self) -> None:
        pass

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url, autocommit=True, prepare_threshold=None)


class MariaDB(Database):
    """MariaDB; the user ``app`` has the database ``app``."""

    program = "mariadbd"
    user = "mysql"

    @property
    def url(self) -> str:
        return f"mariadb://app:{QUOTED}@127.0.0.1:{self.port}/app"

    def make(self) -> None:
        install = _find("mariadb-install-db", "mariadb-server")
        words = "--no-defaults --auth-root-authentication-method=normal --skip-test-db".split()
        self.run(install, *words, f"--datadir={self.data}")

    def command(self) -> list[str]:
        return [
            str(_find("mariadbd", "mariadb-server")),
            "--no-defaults",
            f"--datadir={self.data}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            f"--socket={self.folder / 'socket'}",
            f"--pid-file={self.folder / 'pid'}",
            "--innodb-flush-log-at-trx-commit=2",  # survives kill -9, not a power failure
            "--innodb-doublewrite=0",
            "--innodb-buffer-pool-size=32M",
            "--performance-schema=OFF",
            *self.options,
        ]

    def prepare(self) -> None:
        self.execute("CREATE DATABASE IF NOT EXISTS app CHARACTER SET latin1")
        self.execute(f"CREATE USER IF NOT EXISTS app IDENTIFIED BY '{PASSWORD}'")
        self.execute("GRANT ALL ON app.* TO app")

    def connect(self) -> Any:
        return pymysql.connect(
            unix_socket=str(self.folder / "socket"), user="root", autocommit=True
        )

    in_app = Database.execute

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:  # PyMySQL leaves one open that is refused
            try:
                probe.connect(str(self.folder / "socket"))
            except OSError:
                return False
        return super()._answers()


def _somebody(name: str) -> str:
    """Return the user of the system whom a server may run as."""
    for each in (name, "nobody"):
        try:
            return pwd.getpwnam(each).pw_name
        except KeyError:
            continue
    raise ServerMissing(f"Servers do not run as root, and there is no user {name} nor nobody.")


def _family(parent: int) -> list[int]:
    """Return a process and its children."""
    listed = Path(f"/proc/{parent}/task/{parent}/children")
    children = listed.read_text().split() if listed.exists() else []
    return [parent, *(int(child) for child in children)]


def postgresql_program(program: str) -> Path:
    """Return one of PostgreSQL's own, of the newest version here."""
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda each: float(each.parts[4])
    )
    return _find(program, "postgresql", *versions[-1:])


def _find(program: str, package: str, *folders: Path) -> Path:
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    found = shutil.which(program, path=path)
    if found is None:
        raise ServerMissing(
            f"The tests need {program}: scripts/install-system-packages {package} installs it."
        )
    return Path(found)
