"""The mutants of who somebody is: tokens, sessions, sign-in and its endpoints; and of what is not started with."""

from __future__ import annotations

TOKENS = "tests/identity/test_tokens.py"
TICKETS = "tests/identity/test_tickets.py"
PASSWORDS = "tests/identity/test_passwords.py"
AUTHORITY = "tests/identity/test_authority.py"
NAMES = "tests/identity/test_names.py"
KEYS = "tests/identity/test_keys.py"
SESSION_STORE = "tests/contracts/test_session_store.py"
LINK_STORE = "tests/contracts/test_link_store.py"
USER_STORE = "tests/contracts/test_user_store.py"
AUTH = "tests/api/test_auth.py"
SIGN_IN = "tests/security/test_sign_in.py"
ISSUERS = "tests/identity/test_issuers.py"
HTTP = "tests/doors/test_http.py"
CERTIFICATES = "tests/doors/test_certificates.py"
SETTINGS = "tests/test_settings.py"
CHECK = "tests/cli/test_check.py"
RELOAD = "tests/doors/test_reload.py"
DATABASE = "tests/storage/test_database.py"

Row = tuple[str, str, str, str, str]

CREDENTIALS: tuple[Row, ...] = (
    ("token: issuer", "identity/tokens.py", "or claims.iss != self._settings.issuer", "", f"{TOKENS} -k wrong_claims"),
    (
        "token: audience",
        "identity/tokens.py",
        "or claims.aud != self._settings.audience",
        "",
        f"{TOKENS} -k wrong_claims",
    ),
    (
        "token: header",
        "identity/tokens.py",
        "class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True)",
        "class Header(msgspec.Struct, frozen=True)",
        f"{TOKENS} -k header",
    ),
    ("token: type", "identity/tokens.py", 'typ: Literal["at+jwt"]', "typ: str", f"{TOKENS} -k only_access"),
    (
        "token: not before",
        "identity/tokens.py",
        "claims.iat > now + leeway or claims.nbf > now + leeway",
        "False",
        f"{TOKENS} -k 'leeway or wrong_claims'",
    ),
    ("token: life", "identity/tokens.py", "claims.exp - claims.iat > self._life", "False", f"{TOKENS} -k wrong_claims"),
    ("token: size", "identity/tokens.py", "len(token) > MAX_CHARACTERS or", "", f"{TOKENS} -k size"),
    (
        "tickets of a session that ended",
        "identity/authority.py",
        "        self._endings.on_end(self._tickets.drop)\n",
        "",
        "tests/identity/test_authority.py -k ticket_of_an_ended",
    ),
    ("tickets in all", "identity/tickets.py", "len(self._issued) >= self._limit", "False", TICKETS),
    ("tickets of a session", "identity/tickets.py", "len(mine) >= MAX_PER_SESSION", "False", TICKETS),
    ("session of a ticket", "identity/tickets.py", "if session is None:", "if False:", TICKETS),
    (
        "token of a ticket",
        "identity/authority.py",
        "self._tickets.issue(proof, canonical)",
        "self._tickets.issue(Proof(proof.identity), canonical)",
        f"{AUTHORITY} -k 'revoked_meanwhile or token_is_revoked'",
    ),
    (
        "hashing that is busy",
        "identity/passwords.py",
        "asyncio.timeout(self._patience)",
        "asyncio.timeout(None)",
        f"{PASSWORDS} -k busy",
    ),
    (
        "length of a password",
        "identity/passwords.py",
        "if not MIN_CHARACTERS <= len(value) <= MAX_CHARACTERS:",
        "if False:",
        PASSWORDS,
    ),
    (
        "place of who left",
        "identity/passwords.py",
        "        future.add_done_callback(give_back)\n",
        "        loop.call_soon(self._places.release)\n",
        PASSWORDS,
    ),
    ("names: characters", "identity/names.py", "or character in PUNCTUATION:", "or True:", NAMES),
    ("names: first character", "identity/names.py", " or not is_letter_or_digit(name[0])", "", NAMES),
    (
        "names: what shows nothing",
        "identity/names.py",
        'category == "Nd") and ord(character) not in INVISIBLE',
        'category == "Nd")',
        NAMES,
    ),
    ("names: marks", "identity/names.py", " and marks < MAX_MARKS", "", NAMES),
    (
        "names that look alike",
        "storage/users.py",
        "skeleton=skeleton(user.name)",
        "skeleton=folded(user.name)",
        USER_STORE,
    ),
    (
        "names that looked alike before",
        "storage/migrations/versions/0003_skeletons.py",
        "values(skeleton=looks)",
        "values(skeleton=None)",
        f"{DATABASE} -k look_alikes",
    ),
    ("case and width of a name", "identity/names.py", 'unicodedata.normalize("NFKC", name).casefold()', "name", NAMES),
    (
        "key that others can read",
        "identity/keys.py",
        "    if path.stat().st_mode & 0o077:\n",
        "    if False:\n",
        KEYS,
    ),
    (
        "key whose mode is mended",
        "identity/keys.py",
        "before = self.found",
        "before, self._used = self.found, state",
        f"{KEYS} -k mended",
    ),
    (
        "key that is gone beside one that is wrong",
        "identity/keys.py",
        "        if found:\n            self.found",
        "        if found and not wrong:\n            self.found",
        f"{KEYS} -k retired_whatever",
    ),
    (
        "key that is gone while the store fails",
        "identity/authority.py",
        "        self._reload_keys()\n        await self._endings.learn()\n",
        "        await self._endings.learn()\n        self._reload_keys()\n",
        f"{AUTHORITY} -k retired_though",
    ),
    ("key of another name", "identity/keys.py", "or key.thumbprint() != kid", "", KEYS),
)

STORED: tuple[Row, ...] = (
    (
        "absolute limit of a session",
        "identity/sessions.py",
        "        if now >= session.expires_at:\n",
        "        if False:\n",
        f"{AUTHORITY} -k absolute_limit",
    ),
    (
        "idle limit of a session",
        "identity/sessions.py",
        "        if now - session.last_seen_at >= self._settings.idle_seconds:\n",
        "        if False:\n",
        f"{AUTHORITY} -k idle",
    ),
    (
        "absolute limit of a cookie in memory",
        "identity/sessions.py",
        "now < known.expires_at and ",
        "",
        f"{AUTHORITY} -k keeps_to_the_absolute",
    ),
    (
        "sessions of a user",
        "storage/sessions.py",
        "            ended = await end_surplus(connection, session, keep=per_user - 1)\n",
        "            ended = frozenset()\n",
        SESSION_STORE,
    ),
    (
        "user changed during the sign-in",
        "storage/sessions.py",
        "return password_hash is None or bool(row.password_hash == password_hash)",
        "return True",
        SESSION_STORE,
    ),
    (
        "disabled user",
        "storage/sessions.py",
        "if row is None or row.disabled_at is not None:",
        "if row is None:",
        SESSION_STORE,
    ),
    (
        "a change of a user ends sessions",
        "storage/users.py",
        "return await session_rows.end_of_user(connection, name, at=at, reason=reason)",
        "return frozenset()",
        f"{USER_STORE} -k 'password_ends or disabling'",
    ),
    (
        "single use of a link",
        "storage/links.py",
        "sign_in_links.c.used_at.is_(None), ",
        "",
        LINK_STORE,
    ),
    ("end of a link", "storage/links.py", ", sign_in_links.c.expires_at > now)", ")", LINK_STORE),
    (
        "sessions of somebody else",
        "identity/authority.py",
        "session in mine and bool",
        "bool",
        f"{AUTHORITY} -k own_sessions_only",
    ),
    (
        "endings that are not known",
        "identity/authority.py",
        "        await self._endings.ensure_fresh()\n",
        "",
        f"{AUTHORITY} -k without_the_store",
    ),
    (
        "session of an access token",
        "identity/authority.py",
        "if session is None or self._endings.is_ended(session):",
        "if False:",
        f"{AUTHORITY} -k opens_until",
    ),
    (
        "store that fails",
        "identity/authority.py",
        "        except StorageError:\n            return UNAVAILABLE\n",
        "        except ZeroDivisionError:\n            return UNAVAILABLE\n",
        f"{AUTHORITY} -k without_the_store",
    ),
    (
        "access token that buys the next",
        "identity/authority.py",
        "        if not is_external(identity.session):\n",
        "        if False:\n",
        f"{AUTH} -k buy_the_next",
    ),
    ("commits of others", "identity/endings.py", "version == self._seen and ", "", f"{AUTHORITY} -k version"),
    ("a store that says nothing", "identity/endings.py", "version is not None and ", "", f"{AUTHORITY} -k version"),
    ("asked now and then", "identity/endings.py", " and asked_at < self._ask_by:", ":", f"{AUTHORITY} -k version"),
    (
        "two commits at one time",
        "storage/database.py",
        "if time.time() - written_at > SETTLED_SECONDS else None",
        "",
        f"{DATABASE} -k version",
    ),
)

ENDPOINTS: tuple[Row, ...] = (
    (
        "own page",
        "api/endpoint.py",
        "return None if self.origin in self.desk.own_origins else",
        "return None if True else",
        AUTH,
    ),
    (
        "cookie without Origin",
        "api/endpoint.py",
        "        if cookie_values(self.head):\n",
        "        if False:\n",
        AUTH,
    ),
    (
        "page with a bearer token",
        "api/endpoint.py",
        "and self.origin not in self.desk.policy.origins",
        "and False",
        AUTH,
    ),
    (
        "two credentials of a request",
        "api/endpoint.py",
        "if len(bearers) > 1 or (not bearers and len(cookies) > 1):",
        "if False:",
        AUTH,
    ),
    (
        "carrier that is off, of a request",
        "api/endpoint.py",
        "if not (on.bearer if bearers else on.cookie):",
        "if False:",
        AUTH,
    ),
    ("method of a request", "api/endpoint.py", "if call.head.method not in self._handlers:", "if False:", AUTH),
    (
        "credential in the URL of a request",
        "api/middleware.py",
        "CHECKS = (check_host, check_url)",
        "CHECKS = (check_host,)",
        f"{HTTP} -k in_the_url",
    ),
    (
        "body before the credential",
        "api/endpoint.py",
        "content = await bodies.read_body(call.request, self._desk.settings.limits)\n",
        "return await self._handlers[call.head.method](call)\n",
        f"{AUTH} -k while_the_body",
    ),
    (
        "guesses that ask the store",
        "api/endpoint.py",
        "if refusal is not None and not known:",
        "if False:",
        f"{AUTH} -k reaches_the_store",
    ),
    (
        "guesses that are told",
        "api/endpoint.py",
        "return refusal or answer",
        "return answer",
        f"{AUTH} -k 'keep_nobody_out'",
    ),
    (
        "guesses of a neighbour",
        "api/endpoint.py",
        "if refusal is not None and not known:",
        "if refusal is not None:",
        f"{AUTH} -k keep_nobody_out",
    ),
    ("only administrators", "api/auth.py", 'if identity.role != "admin":', "if False:", AUTH),
    (
        "session from before the sign-in",
        "api/auth.py",
        "    await end_presented(call)\n    content",
        "    content",
        AUTH,
    ),
    ("attributes of the cookie", "api/auth.py", "Secure; HttpOnly; SameSite=Strict", "Secure; SameSite=Lax", AUTH),
    (
        "declared size of a body",
        "api/bodies.py",
        "if len(declared) > 12 or int(declared) > limits.body_bytes:",
        "if False:",
        SIGN_IN + " -k megabyte",
    ),
    ("size of a body", "api/bodies.py", "if len(content) > limits.body_bytes:", "if False:", AUTH),
    ("time of a body", "api/bodies.py", "asyncio.timeout(limits.head_seconds)", "asyncio.timeout(None)", AUTH),
    (
        "type of a body",
        "api/bodies.py",
        "if content and not is_json(types):",
        "if False:",
        AUTH,
    ),
    (
        "half a character of a body",
        "api/bodies.py",
        "            msgspec.json.encode(value)\n",
        "            pass\n",
        "tests/api/test_server_api.py -k half_a_character",
    ),
    (
        "two values of a key of a body",
        "api/bodies.py",
        'value = codec.parse((content or b"{}").decode())',
        'value = msgspec.json.decode(content or b"{}")',
        f"{AUTH} -k parsers_read",
    ),
    (
        "unknown fields of a body",
        "api/bodies.py",
        "class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):",
        "class Strict(msgspec.Struct, frozen=True):",
        AUTH,
    ),
    ("host of a request", "api/middleware.py", "CHECKS = (check_host, check_url)", "CHECKS = (check_url,)", HTTP),
    (
        "redirect that repeats the URL",
        "api/application.py",
        "    application.router.redirect_slashes = False\n",
        "",
        f"{HTTP} -k no_redirect",
    ),
)

START: tuple[Row, ...] = (
    (
        "off loopback without TLS",
        "exposure/refused.py",
        "    if tls.certificate is None:\n        yield (",
        "    if False:\n        yield (",
        SETTINGS,
    ),
    ("certificate that expired", "exposure/files.py", "leaf.not_valid_after_utc <= now:", "False:", SETTINGS),
    ("certificate of the future", "exposure/files.py", "leaf.not_valid_before_utc > now:", "False:", SETTINGS),
    (
        "key that others can read at the start",
        "exposure/files.py",
        '    if _open_to_others(status):\n        yield f"tls.key ({path})',
        '    if False:\n        yield f"tls.key ({path})',
        SETTINGS,
    ),
    ("key of another certificate", "exposure/files.py", "leaf.public_key() != public", "False", SETTINGS),
    (
        "data directory that others can read",
        "exposure/files.py",
        "elif stat.S_IMODE(status.st_mode) & 0o077:",
        "elif False:",
        SETTINGS,
    ),
    ("origin for everyone", "exposure/refused.py", '        if "*" in origin:\n', "        if False:\n", SETTINGS),
    ("origin that is not exact", "exposure/refused.py", "elif not _exact(origin):", "elif False:", SETTINGS),
    (
        "origin over http",
        "exposure/refused.py",
        'if scheme.lower() == "http" and host.lower() != "localhost":',
        "if False:",
        SETTINGS,
    ),
    ("proxies everywhere", "exposure/refused.py", "if network.prefixlen == 0:", "if False:", CHECK),
    (
        "no credential at all",
        "exposure/refused.py",
        "if not (accepted.cookie or accepted.bearer or accepted.ticket):",
        "if False:",
        SETTINGS,
    ),
    (
        "secret that is short",
        "exposure/files.py",
        'if len(content.rstrip(b"\\r\\n")) < HMAC_BYTES:',
        "if False:",
        ISSUERS,
    ),
    ("two issuers of one name", "exposure/issuers.py", "elif issuer.issuer in taken:", "elif False:", ISSUERS),
    (
        "host name of the server",
        "exposure/refused.py",
        "        if not _is_host(name):\n",
        "        if False:\n",
        SETTINGS,
    ),
    (
        "CA of clients that expired",
        "exposure/files.py",
        "if all(certificate.not_valid_after_utc <= now for certificate in found):",
        "if False:",
        SETTINGS,
    ),
    (
        "message that fits nowhere",
        "exposure/refused.py",
        "if getattr(limits, key) < limits.message_bytes:",
        "if False:",
        SETTINGS,
    ),
    (
        "pair that a start would refuse",
        "doors/reload.py",
        "            self._judge(now)\n",
        "",
        f"{RELOAD} -k 'others_can_read or expired or until_it_is'",
    ),
    (
        "pair that changes while it is read",
        "doors/reload.py",
        "if self._state() != state:",
        "if False:",
        f"{RELOAD} -k while_it_is_read",
    ),
    (
        "lists that could not be read",
        "doors/reload.py",
        "        try:\n            self.rules = rules_of(self._settings)",
        "        self._used = state\n        try:\n            self.rules = rules_of(self._settings)",
        f"{RELOAD} -k could_not_be_read",
    ),
    ("renewal in time", "doors/reload.py", " and now < self._judge_at:", ":", RELOAD),
    ("one server a directory", "lock.py", "fcntl.LOCK_EX |", "fcntl.LOCK_SH |", "tests/test_lock.py -k by_one"),
    (
        "end of a process",
        "watchdog.py",
        "        self._timer.start()",
        "        pass",
        "tests/test_server.py -k no_cancellation",
    ),
    ("statements at the end", "storage/database.py", "while self._uses:", "while False:", f"{DATABASE} -k cancelled"),
    (
        "a database that fails, in /readyz",
        "server.py",
        ", *self.database.failures]",
        "]",
        "tests/security/test_durability.py -k users_database",
    ),
    (
        "a database that is mended",
        "process.py",
        '            (server.database.mend, "cannot try the database again"),\n',
        "",
        "tests/security/test_durability.py -k users_database",
    ),
    ("mode of the database", "storage/database.py", "        path.chmod(0o600)\n", "", f"{DATABASE} -k from_elsewhere"),
    ("mode of what is written", "doors/certificates.py", "0o600", "0o644", CERTIFICATES),
)

ROWS = CREDENTIALS + STORED + ENDPOINTS + START
