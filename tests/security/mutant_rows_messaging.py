"""The mutants of what applications write and do: declarations, callbacks, and what happens while somebody waits."""

from __future__ import annotations

CONNECTION = "tests/messaging/test_connection.py"
HANDLERS = "tests/messaging/test_handlers.py"
SUBSCRIBING = "tests/messaging/test_subscribing.py"
CONTROL = "tests/messaging/test_control.py"
CLIENT = "tests/messaging/test_client.py"

Row = tuple[str, str, str, str, str]

ROWS: tuple[Row, ...] = (
    (
        "bytes of a buffer",
        "messaging/frames.py",
        "        message = memoryview(message).tobytes()\n",
        "        pass\n",
        f"{CONNECTION} -k buffer",
    ),
    (
        "a right that is none",
        "messaging/handlers.py",
        "    if found is None and name.startswith(RIGHT):",
        "    if False:",
        HANDLERS,
    ),
    (
        "a right that cannot be had",
        "messaging/handlers.py",
        "    if name not in dir(handler):",
        "    if True:",
        HANDLERS,
    ),
    (
        "a right that cannot be called",
        "messaging/handlers.py",
        "    if not callable(function):",
        "    if False:",
        HANDLERS,
    ),
    (
        "a right that yields",
        "messaging/handlers.py",
        "    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):",
        "    if False:",
        HANDLERS,
    ),
    (
        "a right that looks false",
        "messaging/channels.py",
        'if found["may_subscribe"] is None:',
        'if not found["may_subscribe"]:',
        f"{HANDLERS} -k looks_false",
    ),
    (
        "a right that is neither yes nor no",
        "messaging/channels.py",
        "if answer is NotImplemented or isinstance(answer, (Iterator, AsyncIterator)):",
        "if False:",
        f"{HANDLERS} -k neither",
    ),
    (
        "a channel that another hides",
        "messaging/channels.py",
        "if all(map(one.fits.fullmatch, samples(channel))):",
        "if False:",
        f"{HANDLERS} -k hides",
    ),
    (
        "the channel protocol's own path",
        "messaging/application.py",
        "        if path == CHANNELS:\n            raise UsageError(f",
        "        if False:\n            raise UsageError(f",
        f"{HANDLERS} -k nothing_would_come",
    ),
    (
        "first message: without channels",
        "assembly.py",
        " and application.speaks_channels else None",
        " else None",
        "tests/security/test_first_message.py -k no_channels",
    ),
    (
        "a pattern that backtracks",
        "messaging/shapes.py",
        "        case StrType(pattern=str(pattern)):",
        "        case StrType(pattern=str(pattern)) if False:",
        f"{HANDLERS} -k for_ever",
    ),
    (
        "fields that a type does not have",
        "messaging/publishing.py",
        "return data if channel.exact else typed",
        "return data",
        f"{SUBSCRIBING} -k has_no_field",
    ),
    (
        "what is no exception",
        "messaging/callbacks.py",
        "FAILURES = (Exception, BaseExceptionGroup, asyncio.CancelledError, SystemExit)",
        "FAILURES = (Exception,)",
        f"{CONNECTION} -k no_exception",
    ),
    (
        "callbacks that are cancelled",
        "messaging/callbacks.py",
        "        if connection.is_open:\n",
        "        if False:\n",
        f"{CONNECTION} -k are_cancelled",
    ),
    (
        "null",
        "messaging/callbacks.py",
        "END: Final = object()",
        "END: Final = None",
        f"{CONNECTION} -k null",
    ),
    (
        "code of a close",
        "messaging/connection.py",
        "        if not is_close_code(code):",
        "        if False:",
        f"{CONNECTION} -k may_be_sent",
    ),
    (
        "messages of someone who is thrown out",
        "messaging/connection.py",
        "            self.inbox.items.clear()\n",
        "            pass\n",
        f"{CONNECTION} -k goes_nowhere",
    ),
    (
        "a pong is no use",
        "messaging/connection.py",
        "        if message == endpoint.pong:",
        "        if False:",
        f"{CLIENT} -k no_use",
    ),
    (
        "one at a time lets a client in",
        "messaging/subscribing.py",
        "        if is_subscribed(client, match.name):\n            return False\n",
        "        pass\n",
        f"{SUBSCRIBING} -k at_once",
    ),
    (
        "a ghost",
        "messaging/subscribing.py",
        "            if not client.connection.is_open:\n                return False\n",
        "",
        f"{SUBSCRIBING} -k ghost",
    ),
    (
        "a right that is lost while it is used",
        "messaging/subscribing.py",
        " or not may_stay(client, subscription):",
        ":",
        f"{SUBSCRIBING} -k lost_before",
    ),
    (
        "unsubscribed while subscribing",
        "messaging/control.py",
        '                one.asking = ""\n',
        "                pass\n",
        f"{SUBSCRIBING} -k unsubscribed_before",
    ),
    (
        "a right to publish that is lost",
        "messaging/publishing.py",
        "if match.channel.on_publish is not None and not may_still_publish(client, match):",
        "if False:",
        f"{SUBSCRIBING} -k still_may",
    ),
    (
        "what is in no history",
        "messaging/node.py",
        "if position.offset == 0 and member.match.channel.keep is not None:",
        "if False:",
        f"{SUBSCRIBING} -k in_no_history",
    ),
    (
        "memory of a subscription token",
        "messaging/node.py",
        "next(self._numbers), weakref.ref(subscription))",
        "next(self._numbers), lambda: subscription)",
        f"{SUBSCRIBING} -k kept_until",
    ),
    (
        "answers that are not taken",
        "messaging/client.py",
        "            await self.connection.until_taken()\n",
        "",
        f"{CLIENT} -k take_the_answers",
    ),
    (
        "bytes of one connect",
        "messaging/subscribing.py",
        "budget -= sum(map(weight, history.publications)) if history is not None else 0",
        "pass",
        "tests/messaging/test_history.py -k one_connect",
    ),
    (
        "a subscription token that is revoked",
        "messaging/node.py",
        "subscription.held is None and not subscription.grant.holds()",
        "False",
        f"{SUBSCRIBING} -k token_is_revoked",
    ),
    (
        "a revoked subscription token at a command",
        "messaging/subscribing.py",
        "client.node.clock.monotonic() and subscription.grant.holds()",
        "client.node.clock.monotonic()",
        f"{SUBSCRIBING} -k token_is_revoked",
    ),
    (
        "a connection that is silent",
        "messaging/control.py",
        "known = self._clients(user, client)",
        "known = self.clients(user, client)",
        f"{CONTROL} -k not_said",
    ),
)
