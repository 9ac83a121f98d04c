"""The mutants of handshakes, messages, frames and connections: name, file, what stands there, what then, the tests."""

from __future__ import annotations

from tests.security.mutant_rows_channels import CHANNELS

ADMIT = "tests/guard/test_admit.py"
KNOWN_HEADS = "tests/doors/test_heads.py"
ROOM = "tests/messaging/test_room.py"
TOKENS = "tests/identity/test_tokens.py"
SCREEN = "tests/guard/test_screen.py"
RATES = "tests/guard/test_rates.py"
LIMITER = "tests/guard/test_limiter.py"
MESSAGES = "tests/guard/test_messages.py"
CONNECTION = "tests/messaging/test_connection.py"
HUB = "tests/messaging/test_hub.py"
ORIGINS = "tests/security/test_origins.py"
CONTENT = "tests/security/test_content.py"
LONG_BAD = f"{CONTENT} -k under_5_ms"
FRAMES = "tests/security/test_frames.py"
OUTSIDE = "tests/security/test_rates.py"
SERVER_API = "tests/api/test_server_api.py"
ADMIN = "tests/security/test_admin.py"
SECRETS = "tests/security/test_secrets.py"
LOAD = "tests/security/test_load.py"
CONNECT = "tests/doors/test_connect.py"
HEADS = "tests/security/test_heads.py"
TRANSPORT = "tests/security/test_transport.py"
HTTP = "tests/doors/test_http.py"
ADMISSION = "tests/doors/test_admission.py"
GUARDED = "tests/guard/test_addresses.py"
FORWARDED = "tests/guard/test_forwarded.py"
COMMANDS = "tests/protocol/test_commands.py"
CLIENT = "tests/messaging/test_client.py"
FOREIGN_PAGES = "tests/e2e/test_foreign_pages.py"
LOGS = "tests/telemetry/test_logs.py"
AUDIT = "tests/telemetry/test_audit.py"
WRITER = "tests/brokers/test_writer.py"
DURABILITY = "tests/security/test_durability.py"

Row = tuple[str, str, str, str, str]

HANDSHAKE: tuple[Row, ...] = (
    (
        "exact origin",
        "guard/origin.py",
        "canonical_origin(values[0]) not in policy.origins",
        "not any(canonical_origin(values[0]) and o in values[0] for o in policy.origins)",
        ORIGINS,
    ),
    ("two origins", "guard/origin.py", "if len(values) > 1:", "if False:", f"{ORIGINS} -k two_origins"),
    ("anchored origin", "guard/origin.py", "SERIALIZED.fullmatch(", "SERIALIZED.match(", f"{ORIGINS} -k looks_like"),
    (
        "port of an origin",
        "guard/origin.py",
        'f"{scheme}://{host}:{port}"',
        'f"{scheme}://{host}"',
        f"{ORIGINS} -k looks_like",
    ),
    (
        "exact host",
        "guard/host.py",
        "host_name(handshake.head) not in policy.names",
        "not any((host_name(handshake.head) or '').startswith(n) for n in policy.names)",
        f"{ORIGINS} -k host",
    ),
    ("two credentials", "guard/credentials.py", "if len(bearers) + len(tickets) > 1 or", "if False and", SCREEN),
    (
        "carrier that is off",
        "guard/credentials.py",
        "if credential.carrier not in policy.carriers:",
        "if False:",
        SCREEN,
    ),
    ("credential named in the URL", "guard/credentials.py", "not forbidden.isdisjoint(names)", "False", SCREEN),
    ("JWT in the URL", "guard/credentials.py", "JWT_LIKE.search(head.target) or ", "", SCREEN),
    ("expired while verified", "guard/admit.py", "identity.expires_at <= now", "False", ADMIT),
    ("connections in all", "guard/admit.py", "counts.total >= quotas.total", "False", f"{OUTSIDE} -k server_s"),
    (
        "Connection is a list of tokens",
        "guard/upgrade.py",
        "if not all(map(OPTION.fullmatch, options)):",
        "if False:",
        SCREEN,
    ),
    ("method", "guard/upgrade.py", 'if head.method != "GET":', "if False:", SCREEN),
    ("HTTP version", "guard/upgrade.py", 'if head.version != "1.1":', "if False:", SCREEN),
    ("upgrade to something else", "guard/upgrade.py", 'head.tokens("upgrade") != ["websocket"] or', "False or", SCREEN),
    ("WebSocket version", "guard/upgrade.py", 'head.one("sec-websocket-version") != "13"', "False", SCREEN),
    (
        "upgrade that Connection does not name",
        "guard/upgrade.py",
        ' or "upgrade" not in options',
        "",
        SCREEN,
    ),
    (
        "length of an upgrade",
        "guard/upgrade.py",
        'any(value.strip() != "0" for value in head.all("content-length"))',
        "False",
        f"{HEADS} -k smuggle",
    ),
    (
        "header that came twice",
        "guard/handshake.py",
        "return values[0] if len(values) == 1 else None",
        "return values[0] if values else None",
        SCREEN,
    ),
    (
        "one header",
        "doors/http.py",
        'or len(name) + len(value) + len(": \\r\\n") > limits.header_bytes',
        "",
        f"{HEADS} -k over_its_size",
    ),
    (
        "whole head",
        "doors/http.py",
        "if size > self._limits.head_bytes:",
        "if False:",
        f"{HEADS} -k over_its_size",
    ),
    (
        "bytes before the 101",
        "doors/http.py",
        "if len(self._early) > EARLY_BYTES and",
        "if False and",
        f"{HTTP} -k too_many_bytes",
    ),
    (
        "idle connection that is kept",
        "doors/http.py",
        "else now + KEEP_ALIVE_SECONDS",
        "else math.inf",
        f"{TRANSPORT} -k kept_connection",
    ),
    (
        "a deadline that moved",
        "doors/http.py",
        "if self.loop.time() < due - TIMER_SECONDS:",
        "if False:",
        f"{TRANSPORT} -k kept_connection",
    ),
    (
        "handshake while the server stops",
        "doors/admission.py",
        "            if self.draining:\n",
        "            if False:\n",
        f"{ADMISSION} -k stops",
    ),
    ("length of the key", "guard/upgrade.py", "strict_mode=True)) == KEY_BYTES", "strict_mode=True)) >= 0", SCREEN),
)

RATE: tuple[Row, ...] = (
    (
        "rate of handshakes",
        "guard/limiter.py",
        "if not bucket.take(now):",
        "if False:",
        f"{OUTSIDE} -k loop_of_connects",
    ),
    (
        "sockets of an address",
        "doors/listener.py",
        "if not self._arrivals.bucket(key, now).take(now):",
        "if False:",
        f"{OUTSIDE} -k only_opens",
    ),
    (
        "what is no address",
        "guard/addresses.py",
        "        except ValueError:\n            return False\n        if parsed in self.deny:",
        "        except ValueError:\n            return True\n        if parsed in self.deny:",
        GUARDED,
    ),
    (
        "mapped address",
        "guard/addresses.py",
        'getattr(parsed, "ipv4_mapped", None) or parsed',
        "parsed",
        GUARDED,
    ),
    (
        "mapped network",
        "guard/addresses.py",
        "if isinstance(network, IPv6Network) and network.subnet_of(MAPPED):",
        "if False:",
        GUARDED,
    ),
    ("way through proxies", "guard/forwarded.py", "if len(entries) > MOST_PROXIES:", "if False:", FORWARDED),
    (
        "a proxy's word without brackets",
        "guard/forwarded.py",
        """if ":" not in entry or "%" in entry:""",
        "if False:",
        FORWARDED,
    ),
    (
        "strikes of an address",
        "guard/limiter.py",
        "        self._bans.strike(allowance_key(address), now)\n",
        "",
        LIMITER,
    ),
    (
        "ban of a user at the handshake",
        "doors/admission.py",
        "refusal = self._limiter.judge_user(identity.user, self._clock.monotonic())",
        "refusal = None",
        f"{OUTSIDE} -k another_address_too",
    ),
    (
        "too much although told",
        "guard/messages.py",
        "return OVER_RATE if standing.violate(now) else TOO_FAST",
        "return OVER_RATE",
        MESSAGES,
    ),
    (
        "ban of an address",
        "guard/limiter.py",
        "if left := self._bans.seconds_left(key, now):",
        "if left := 0:",
        LIMITER,
    ),
    (
        "ban of a user",
        "guard/limiter.py",
        "if left := self._bans.seconds_left(user_key(user), now):",
        "if left := 0:",
        LIMITER,
    ),
    ("strikes", "guard/limiter.py", "        self._bans.strike(user_key(user), now)\n", "", LIMITER),
    ("users apart from addresses", "guard/limiter.py", 'return f"user {user}"', "return user", LIMITER),
    (
        "one allowance for a user",
        "guard/limiter.py",
        "self._users.bucket(user, now)",
        "Bucket(self._rates.user)",
        f"{OUTSIDE} -k five_sockets",
    ),
    (
        "burst",
        "guard/rates.py",
        "full_at = self.full_at\n        if full_at < now:\n            full_at = now\n",
        "full_at = self.full_at\n",
        RATES,
    ),
    ("empty bucket", "guard/rates.py", "        if full_at - now > self.whole:\n            return False\n", "", RATES),
    (
        "burst of messages",
        "guard/messages.py",
        "full_at = bucket.full_at\n            if full_at < now:\n                full_at = now\n",
        "full_at = bucket.full_at\n",
        MESSAGES,
    ),
    (
        "any of the buckets empty",
        "guard/messages.py",
        "            if full_at - now > bucket.whole:\n                return False\n",
        "",
        MESSAGES,
    ),
    ("memory of addresses", "guard/rates.py", "or len(self._new) >= self._limit", "or False", f"{OUTSIDE} -k million"),
    ("longer each time", "guard/rates.py", "self._rules.seconds * 2**record.bans", "self._rules.seconds", RATES),
    ("end of a ban", "guard/rates.py", ", self._rules.most_seconds)", ", 10**9)", RATES),
    ("rate of messages", "guard/messages.py", ", Bucket(rates.messages), user", ", user", MESSAGES),
    ("rate of bytes", "guard/messages.py", "cost: float = size", "cost = 1.0", f"{OUTSIDE} -k bytes"),
    ("rate of a user", "guard/messages.py", "messages), user, total)", "messages), total)", MESSAGES),
    ("rate of all", "guard/messages.py", "user, total)\n        self._v", "user)\n        self._v", MESSAGES),
    (
        "violations",
        "guard/messages.py",
        "return self._violations.take(now)",
        "return True",
        f"{OUTSIDE} -k ten_invalid",
    ),
    (
        "rate of control frames",
        "messaging/connection.py",
        "        if self.is_open:\n            self.allow_one_more()",
        "        if False:\n            self.allow_one_more()",
        f"{OUTSIDE} -k pings",
    ),
    (
        "strike at a close for cause",
        "messaging/connection.py",
        "if decision.strike:",
        "if False:",
        f"{OUTSIDE} -k third_time",
    ),
)

CONTENT_ROWS: tuple[Row, ...] = (
    (
        "expiry before a message",
        "guard/messages.py",
        "    if now >= expires_at:\n        return EXPIRED\n",
        "",
        MESSAGES,
    ),
    (
        "text policy",
        "guard/messages.py",
        "    if text is None:",
        "    if text is None and False:",
        f"{CONTENT} -k deceive",
    ),
    ("text behind escapes", "guard/messages.py", 'if "\\\\" in text and', "if False and", f"{CONTENT} -k deceive"),
    (
        "schema",
        "guard/messages.py",
        "value if rules.schema.accepts(value) else BAD_SHAPE",
        "value",
        f"{CONTENT} -k backtrack",
    ),
    (
        "forbidden characters",
        "guard/text.py",
        "    if not text.isprintable() and FORBIDDEN.search(text) is not None:\n        return None\n",
        "",
        MESSAGES,
    ),
    (
        "controls in ASCII",
        "guard/text.py",
        "None if 0 in text.encode().translate(PERMITTED_ASCII) else text",
        "text",
        MESSAGES,
    ),
    ("normal form", "guard/text.py", 'return unicodedata.normalize("NFC", text)', "return text", MESSAGES),
    ("keys within a message", "guard/text.py", "name is None or name in found or", "", f"{CONTENT} -k deceive"),
    (
        "look-alikes",
        "guard/text.py",
        "return folded.translate(PROTOTYPES).translate(PROTOTYPES)",
        "return folded",
        f"{CONTENT} -k look_alike",
    ),
    ("references out of a schema", "guard/schemas.py", "offline=True,", "offline=False,", f"{CONTENT} -k another_file"),
    (
        "patterns that backtrack",
        "guard/schemas.py",
        "pattern_options=jsonschema_rs.RegexOptions(size_limit=PATTERN_BYTES, dfa_size_limit=PATTERN_BYTES),",
        "",
        f"{CONTENT} -k reaches_out",
    ),
    (
        "duplicate keys",
        "protocol/codec.py",
        '    if len(found) != len(pairs):\n        raise DecodeError("duplicate key")\n',
        "",
        MESSAGES,
    ),
    ("NaN", "protocol/codec.py", "parse_constant=_constant, ", "", f"{CONTENT} -k not_of_the_type"),
    (
        "digits of an integer",
        "protocol/codec.py",
        '    if len(text) > DIGITS:\n        raise DecodeError("integer too large")\n',
        "",
        f"{CONTENT} -k digits",
    ),
    (
        "integers over 64 bits",
        "protocol/codec.py",
        "if not SMALLEST <= value <= LARGEST:",
        "if False:",
        f"{CONTENT} -k not_of_the_type",
    ),
    ("infinite floats", "protocol/codec.py", "if math.isinf(value):", "if False:", f"{CONTENT} -k not_of_the_type"),
    (
        "NaN in a long text",
        "protocol/codec.py",
        "_object, parse_constant=_constant).decode",
        "_object).decode",
        LONG_BAD,
    ),
    (
        "large numbers in a long text",
        "protocol/codec.py",
        "and not _may_hold_large(text)",
        "",
        LONG_BAD,
    ),
    ("depth", "protocol/codec.py", "        _check_depth(text)\n", "        pass\n", f"{CONTENT} -k not_of_the_type"),
    (
        "unknown fields of the page",
        "messaging/types.py",
        "class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):",
        "class Message(msgspec.Struct, frozen=True):",
        f"{CONTENT} -k who_it_is",
    ),
)

FRAME: tuple[Row, ...] = (
    (
        "size of a message",
        "doors/websocket.py",
        "max_size=self._message_bytes",
        "max_size=None",
        f"{FRAMES} -k header_alone",
    ),
    (
        "number of fragments",
        "doors/websocket.py",
        "len(fragments) >= self._limits.message_fragments",
        "False",
        f"{FRAMES} -k 129",
    ),
    ("UTF-8", "doors/websocket.py", "data.decode()", 'data.decode(errors="replace")', f"{FRAMES} -k no_utf_8"),
    (
        "deadline of a message",
        "doors/websocket.py",
        "            self.connection.partial(True)\n",
        "            pass\n",
        f"{FRAMES} -k dripped",
    ),
    (
        "bytes held in all",
        "doors/websocket.py",
        "if self._ledger.incomplete > self._limits.incomplete_bytes:",
        "if False:",
        f"{FRAMES} -k counts_as_held",
    ),
    (
        "bytes a fragment inflates to",
        "doors/websocket.py",
        "        if self._extensions:\n            self._hold(len(data))\n",
        "",
        f"{FRAMES} -k counts_as_held",
    ),
    (
        "first part of a message",
        "doors/websocket.py",
        "            self._hold(len(data))\n        elif",
        "            pass\n        elif",
        f"{FRAMES} -k dripped",
    ),
    (
        "TCP after a close",
        "doors/websocket.py",
        "both directions.\n                self._transport.close()\n",
        "both directions.\n                pass\n",
        f"{FRAMES} -k behind_a_close",
    ),
    (
        "compression is off",
        "doors/negotiation.py",
        "[InflateFactory()] if compression else None",
        "[InflateFactory()]",
        f"{FRAMES} -k compression_is_off",
    ),
    (
        "context takeover",
        "doors/deflate.py",
        "server_no_context_takeover=True, client_no_context_takeover=True",
        "",
        f"{FRAMES} -k without_context",
    ),
    (
        "1007 for bad deflate",
        "doors/deflate.py",
        "if not isinstance(error.__cause__, zlib.error):",
        "if True:",
        f"{FRAMES} -k bad_data",
    ),
    (
        "limit of a bomb",
        "doors/deflate.py",
        "super().decode(frame, max_size=max_size)",
        "super().decode(frame)",
        f"{FRAMES} -k bomb",
    ),
)

CONNECTION_ROWS: tuple[Row, ...] = (
    (
        "answer to a ping",
        "messaging/connection.py",
        "now >= self._abort_at or now >= self._pong_by",
        "now >= self._abort_at",
        f"{FRAMES} -k does_not_answer_pings",
    ),
    (
        "answer to a close",
        "messaging/connection.py",
        "now >= self._abort_at or now",
        "now",
        f"{FRAMES} -k who_does_not_answer",
    ),
    (
        "messages after a close",
        "messaging/connection.py",
        '        """Take one whole message."""\n        if not self.is_open:\n            return\n',
        "",
        f"{FRAMES} -k who_does_not_answer",
    ),
    (
        "expiry of the credential",
        "messaging/connection.py",
        "        if now >= self.expires_at:\n",
        "        if False:\n",
        CONNECTION,
    ),
    ("announced expiry", "messaging/connection.py", "elif now >= self._warn_at:", "elif False:", CONNECTION),
    (
        "idle",
        "messaging/connection.py",
        "elif now >= self._active_at + self.hub.idle_seconds:",
        "elif False:",
        CONNECTION,
    ),
    (
        "message took too long",
        "messaging/connection.py",
        "elif now >= self._partial_at + limits.message_seconds:",
        "elif False:",
        CONNECTION,
    ),
    (
        "stalled write",
        "messaging/connection.py",
        "return now >= self._paused_at + self.hub.limits.stall_seconds",
        "return False",
        CONNECTION,
    ),
    (
        "what waits in the transport",
        "doors/admission.py",
        "        transport.set_write_buffer_limits(high=WAITING_BYTES)\n",
        "",
        f"{LOAD} -k nothing_more",
    ),
    ("bytes of the outbox", "messaging/connection.py", "or unsent > limits.outbox_bytes", "", CONNECTION),
    ("messages of the outbox", "messaging/connection.py", "len(outbox) > limits.outbox_messages or", "", CONNECTION),
    (
        "both bounds of the outbox",
        "messaging/connection.py",
        'unsent > limits.outbox_bytes:\n                self.drop("slow_consumer")',
        "unsent > limits.outbox_bytes:\n                pass",
        f"{LOAD} -k at_the_bound",
    ),
    (
        "messages that wait for a callback",
        "messaging/connection.py",
        "            self.transport.pause_reading()\n",
        "            pass\n",
        CONNECTION,
    ),
    (
        "sending after a close",
        "messaging/connection.py",
        "        if self.is_open:\n            self.queue(frame(message))",
        "        if True:\n            self.queue(frame(message))",
        CONNECTION,
    ),
    (
        "deadlines of who is gone",
        "messaging/hub.py",
        "        self._forget(connection)\n        connection.room",
        "        connection.room",
        f"{HUB} -k gone",
    ),
    (
        "an exception alone",
        "messaging/callbacks.py",
        'connection.close(CloseCode.INTERNAL_ERROR, "internal error")',
        "pass",
        CONNECTION,
    ),
)

LOG: tuple[Row, ...] = (
    (
        "lines that wait to be written",
        "telemetry/lines.py",
        "if len(self._lines) >= self._limit or self._closed:",
        "if self._closed:",
        f"{LOGS} -k reader_that_stops",
    ),
    (
        "one count a second",
        "telemetry/audit.py",
        "if now >= self._told_at:\n            self.flush()",
        "if True:\n            self.flush()",
        f"{AUDIT} -k once_a_second",
    ),
    (
        "count of what was left out",
        "telemetry/audit.py",
        "        self._left_out += 1\n        if now",
        "        if now",
        f"{AUDIT} -k bounded_and_counted",
    ),
    (
        "escaping in the log",
        "telemetry/escape.py",
        "return UNSAFE.sub(_code, cut)",
        "return cut",
        f"{SECRETS} -k forges",
    ),
    (
        "lines of the audit log",
        "telemetry/audit.py",
        "if not self._bucket.take(now):",
        "if False:",
        f"{LOAD} -k flood",
    ),
    ("shapes of credentials", "telemetry/redact.py", 'SHAPES.sub("***", text)', "text", f"{LOGS} -k credential"),
    (
        "secrets that are printed",
        "guard/identity.py",
        'return "***"',
        "return self.__value",
        "tests/guard tests/identity",
    ),
    (
        "scripts of foreign pages",
        "api/middleware.py",
        '    "Cross-Origin-Resource-Policy": "same-origin",\n',
        "",
        f"{FOREIGN_PAGES} -k foreign_page_gets",
    ),
    (
        "frames of foreign pages",
        "api/middleware.py",
        "frame-ancestors 'none'",
        "frame-ancestors *",
        f"{FOREIGN_PAGES} -k foreign_page_gets",
    ),
    (
        "sockets of a session that ended",
        "server.py",
        'self.hub.end_sessions(sessions, CloseCode.CREDENTIAL_EXPIRED, "session ended")',
        "pass",
        f"{FOREIGN_PAGES} -k logging_out",
    ),
    ("headers of pages", "api/middleware.py", "headers.setdefault(name, value)", "pass", f"{SECRETS} -k exact"),
    (
        "answers that are kept",
        "api/middleware.py",
        'headers.setdefault("Cache-Control", "no-store")',
        "pass",
        f"{SECRETS} -k exact",
    ),
)

ADMIN_ROWS: tuple[Row, ...] = (
    (
        "API key",
        "api/server_api.py",
        "if len(shown) == 1 and self._key.matches(shown[0]):",
        "if len(shown) == 1:",
        f"{SERVER_API} -k anything_else",
    ),
    (
        "API key: more than one",
        "api/server_api.py",
        "if len(shown) == 1 and self._key.matches(shown[0]):",
        "if shown and self._key.matches(shown[0]):",
        f"{SERVER_API} -k anything_else",
    ),
    (
        "API key: guesses",
        "api/server_api.py",
        "attempts.failed(call.address, now)",
        "pass",
        f"{SERVER_API} -k too_often",
    ),
    (
        "API: what is not offered",
        "api/server_api.py",
        "self._control is None or not said.is_offered(body)",
        "self._control is None",
        f"{SERVER_API} -k not_offered",
    ),
    (
        "API: size of a publication",
        "api/server_api.py",
        "if len(data) > self._limits.message_bytes:",
        "if False:",
        f"{SERVER_API} -k no_larger",
    ),
    (
        "API: host",
        "api/middleware.py",
        "host_name(head_of(scope)) not in self.policy.names",
        "False",
        f"{SERVER_API} -k another_host",
    ),
    (
        "API: body",
        "api/server_api.py",
        '"body_bytes": body_bytes,',
        "",
        f"{ADMIN} -k body_over",
    ),
    (
        "API: TLS",
        "server.py",
        "(lambda: self.admin_tls.context) if admin.tls else None",
        "None",
        f"{ADMIN} -k nothing_but_tls",
    ),
    (
        "API: sockets",
        "server.py",
        "origins=frozenset(), paths=frozenset()",
        "origins=frozenset(), paths=self.policy.paths | {CHANNELS}",
        f"{ADMIN} -k no_socket",
    ),
    (
        "API: off loopback",
        "exposure/refused.py",
        "    if is_loopback(admin.host):\n        return",
        "    return",
        "tests/test_settings.py -k server_api_off",
    ),
    (
        "API: a key that others can read",
        "exposure/refused.py",
        'yield from files.secret("admin.api_key_file", path)',
        "yield from ()",
        "tests/test_settings.py -k api_key",
    ),
)

DURABLE: tuple[Row, ...] = (
    (
        "mending before anyone is answered",
        "brokers/writer.py",
        "            self._broken = reason\n            self._mend()\n",
        "            self._broken = reason\n",
        WRITER,
    ),
    (
        "refusing while the file is broken",
        "brokers/writer.py",
        "error = self._broken or self._attempt(",
        "error = self._attempt(",
        WRITER,
    ),
    (
        "writing over what failed",
        "brokers/stream_file.py",
        '            self.connection.execute("INSERT OR REPLACE INTO mend VALUES (1, zeroblob(?))", (MEND_BYTES,))\n'
        '            self.connection.execute("DELETE FROM mend")\n',
        "            pass\n",
        f"{DURABILITY} -k sync-kept",
    ),
    (
        "copying the log of the last process",
        "brokers/stream_file.py",
        '"PRAGMA wal_checkpoint(TRUNCATE)"',
        '"SELECT 0, 0, 0"',
        f"{DURABILITY} -k sync-lost",
    ),
)

# What is remembered to be faster, and must not remember more than it may.
MEMORY: tuple[Row, ...] = (
    (
        "memory: buffers of a connection",
        "doors/connect.py",
        "ssl_incoming_bio_size=server.read_buffer_bytes",
        "ssl_incoming_bio_size=16_384",
        f"{LOAD} -k keeps_little",
    ),
    (
        "memory: a handshake given up",
        "doors/connect.py",
        "            transport.close()\n            raise",
        "            raise",
        f"{CONNECT} -k gives_up",
    ),
    (
        "memory: the key of a good token",
        "identity/tokens.py",
        "            if self._keys.verifies(key, self._clock.wall(), self._overlap):",
        "            if True:",
        f"{TOKENS} -k Remembered",
    ),
    (
        "memory: the whole of a good token",
        "identity/tokens.py",
        'sha256(token.encode("ascii"))',
        'sha256(token.rpartition(".")[0].encode("ascii"))',
        f"{TOKENS} -k Remembered",
    ),
    (
        "memory: number of good tokens",
        "identity/tokens.py",
        "if len(self._good) >= REMEMBERED:",
        "if False:",
        f"{TOKENS} -k Remembered",
    ),
    ("memory: heads over the limit", "doors/heads.py", "max_size=self._max_size", "max_size=None", KNOWN_HEADS),
    ("memory: heads of fragments", "doors/heads.py", "and frame.fin and", "and", KNOWN_HEADS),
    ("memory: number of heads", "doors/heads.py", "len(self.known) >= REMEMBERED or", "", KNOWN_HEADS),
    (
        "memory: a frame that has begun",
        "doors/websocket.py",
        "        if self._begun:\n            data",
        "        if self._begun and self._at_head:\n            data",
        KNOWN_HEADS,
    ),
    (
        "memory: a frame that has begun is held",
        "doors/websocket.py",
        "            self._hold(len(self._begun) - self._held)\n",
        "            pass\n",
        KNOWN_HEADS,
    ),
    (
        "memory: a frame that has begun keeps its deadline",
        "doors/websocket.py",
        "        if self._held and at:\n",
        "        if self._held:\n",
        KNOWN_HEADS,
    ),
    ("turns", "doors/websocket.py", "            if not left:\n", "            if False:\n", KNOWN_HEADS),
    (
        "turns: large reads",
        "doors/websocket.py",
        "        if len(self._waiting) >= TURN_BYTES:\n",
        "        if False:\n",
        KNOWN_HEADS,
    ),
    (
        "turns: what is read meanwhile comes behind",
        "doors/websocket.py",
        "            self._waiting += data\n",
        "            self._waiting = data\n",
        KNOWN_HEADS,
    ),
    (
        "turns: bounded",
        "doors/turns.py",
        "        if len(waiting) >= TOGETHER:\n",
        "        if False:\n",
        "tests/doors/test_turns.py",
    ),
    (
        "turns: who has more comes behind",
        "doors/turns.py",
        "        self._more.append(door)\n",
        "        self._waiting.append(door)\n",
        "tests/doors/test_turns.py",
    ),
    (
        "turns: one that breaks",
        "doors/turns.py",
        "                door.broken(error)\n",
        "                raise\n",
        "tests/doors/test_turns.py",
    ),
    (
        "turns: one that breaks is ended",
        "doors/websocket.py",
        "        self.connection.hub.loop.call_exception_handler(context)\n        self.abort()\n",
        "        self.connection.hub.loop.call_exception_handler(context)\n",
        KNOWN_HEADS,
    ),
    (
        "answers: before the closing frame",
        "doors/websocket.py",
        "            self.connection.closing()  # what",
        "            pass  # what",
        HTTP,
    ),
    (
        "answers: before the end of TLS",
        "doors/websocket.py",
        "        self._take_all()\n        self.connection.flush()\n",
        "        self._take_all()\n",
        KNOWN_HEADS,
    ),
    (
        "answers: what is queued",
        "messaging/connection.py",
        "            self.flush()\n            self.is_open = False\n",
        "            self.is_open = False\n",
        HTTP,
    ),
    (
        "turns: who is paused",
        "doors/websocket.py",
        "        if not data or self._paused:\n",
        "        if not data:\n",
        KNOWN_HEADS,
    ),
    (
        "turns: before the end",
        "doors/websocket.py",
        "        self._take_all()\n        self._release()\n",
        "        self._release()\n",
        KNOWN_HEADS,
    ),
    (
        "memory: heads where data is compressed",
        "doors/websocket.py",
        "self._at_head = not extensions and self._has_full_limit()\n",
        "self._at_head = True\n",
        KNOWN_HEADS,
    ),
    (
        "memory: heads amid a frame",
        "doors/websocket.py",
        "            is_between\n            and self._fragments is None\n",
        "            self._fragments is None\n",
        KNOWN_HEADS,
    ),
    (
        "memory: heads amid a message",
        "doors/websocket.py",
        "            and self._fragments is None\n",
        "",
        KNOWN_HEADS,
    ),
    (
        "memory: what follows a message is held",
        "doors/websocket.py",
        "            self._hold(0 if is_between else max(len(protocol.reader.buffer), 1))\n",
        "",
        KNOWN_HEADS,
    ),
    (
        "memory: order behind a broadcast",
        "messaging/connection.py",
        "        if self.room.unsent:",
        "        if False:",
        ROOM,
    ),
    ("memory: who does not read a room", "messaging/room.py", "members[connection] = later", "pass", ROOM),
    (
        "memory: who left a room while it did not read",
        "messaging/room.py",
        " if one in members]",
        "]",
        ROOM,
    ),
    (
        "memory: who reads a room again",
        "messaging/connection.py",
        "            self.room.aside.discard(self)\n        self.flush()",
        "            pass\n        self.flush()",
        ROOM,
    ),
    (
        "memory: what waits is sent before the end",
        "messaging/connection.py",
        "            self._paused_at = math.inf  # whatever the peer has taken so far\n",
        "",
        ROOM,
    ),
)

ROWS = HANDSHAKE + RATE + CONTENT_ROWS + FRAME + CONNECTION_ROWS + CHANNELS + LOG + ADMIN_ROWS + DURABLE + MEMORY
