/* TLS, frames, and the texts of the three protocols. */
#include "driver.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 16384, JOINED = 1 << 20 };

/* Texts. A payload is its number in hex and a filler of ASCII, between what the protocol puts around it. */

static const char FILLER[] = "The quick brown fox jumps over the lazy dog, while nine ancient wizards quietly box up a "
                             "hexagonal lock of jade and wax. ";
static char payload[LARGEST + 1], expected[LARGEST + 64];
static size_t expected_size, before_size;

static void write_number(char *text, uint64_t number) {
    static const char digits[] = "0123456789abcdef";
    for (int i = 15; i >= 0; i--, number >>= 4) text[i] = digits[number & 15];
}

void prepare_texts(void) {
    for (int i = 0; i < options.size; i++) payload[i] = FILLER[(size_t)i % (sizeof FILLER - 1)];
    const char *before = options.dialect == SOCKETIO ? "42[\"m\",\"" : "";
    const char *after = options.dialect == SOCKETIO ? "\"]" : "";
    before_size = strlen(before);
    expected_size = (size_t)snprintf(expected, sizeof expected, "%s%s%s", before, payload, after);
}

/* The room that the frame of one message takes at most. */
size_t frame_room(void) { return (size_t)options.size + 256; }

/* Clients mask (RFC 6455 §5.3). */
size_t text_frame(const char *text, size_t size, unsigned char *frame) {
    static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    size_t header = size < 126 ? 2 : 4;
    frame[0] = 0x81;
    frame[1] = (unsigned char)(0x80 | (size < 126 ? size : 126));
    if (size >= 126) {
        frame[2] = (unsigned char)(size >> 8);
        frame[3] = (unsigned char)size;
    }
    memcpy(frame + header, mask, 4);
    for (size_t i = 0; i < size; i++) frame[header + 4 + i] = (unsigned char)text[i] ^ mask[i & 3];
    return header + 4 + size;
}

size_t message_frame(struct client *client, uint64_t number, unsigned char *frame) {
    if (options.dialect != CHANNEL) {
        write_number(expected + before_size, number);
        return text_frame(expected, expected_size, frame);
    }
    static char command[LARGEST + 256];
    write_number(payload, number);
    client->asked_at[++client->asked % MOST] = nanoseconds(CLOCK_MONOTONIC);
    int size = snprintf(command, sizeof command, "{\"id\":%llu,\"publish\":{\"channel\":\"%s%d\",\"data\":\"%s\"}}",
                        (unsigned long long)client->asked, options.channel, client->room, payload);
    return text_frame(command, (size_t)size, frame);
}

static void not_due(struct client *client, const char *text, size_t size) {
    fprintf(stderr, "client %d got %.*s, due was %llx\n", (int)(client - clients), size > 90 ? 90 : (int)size, text,
            (unsigned long long)client->due);
    errno = 0;
    fail("a message that was not due");
}

static void count_message(struct client *client, int64_t now) {
    client->due++;
    if (!missing--) fail("a message nobody waits for");
    if (got_message) got_message(client, now);
}

/* One JSON object of the channel protocol: a ping, the answer to a publish, or a publication. */
static void take_object(struct client *client, const char *text, size_t size, int64_t now) {
    if (size == 2) {
        send_text(client, "{}");
    } else if (!strncmp(text, "{\"id\":", 6)) {
        if (!memmem(text, size, "\"publish\"", 9)) not_due(client, text, size);
        uint64_t id = strtoull(text + 6, NULL, 10);
        if (id > client->asked || !client->asked_at[id % MOST]) not_due(client, text, size);
        int64_t sent_at = client->asked_at[id % MOST];
        client->asked_at[id % MOST] = 0;
        if (got_answer) got_answer(client, sent_at, now);
    } else {
        const char *data = memmem(text, size, "\"data\":\"", 8);
        if (!data || client->due == NOTHING) not_due(client, text, size);
        write_number(payload, client->due);
        if (size < (size_t)(data + 8 - text) + (size_t)options.size || memcmp(data + 8, payload, (size_t)options.size))
            not_due(client, text, size);
        count_message(client, now);
    }
}

static void take_text(struct client *client, const char *text, size_t size) {
    if (client->ignores && client->state == OPEN) return;
    if (client->state != OPEN) {
        if (!ready(client, text, size)) not_due(client, text, size);
        return;
    }
    int64_t now = nanoseconds(CLOCK_MONOTONIC);
    if (options.dialect == CHANNEL) {
        for (const char *end = text + size; text < end;) {
            const char *line = memchr(text, '\n', (size_t)(end - text));
            size_t length = (size_t)((line ? line : end) - text);
            if (length) take_object(client, text, length, now);
            text += length + 1;
        }
        return;
    }
    if (options.dialect == SOCKETIO && size == 1 && *text == '2') {
        send_text(client, "3");
        return;
    }
    write_number(expected + before_size, client->due);
    if (size != expected_size || memcmp(text, expected, size)) not_due(client, text, size);
    count_message(client, now);
}

/* Return how many bytes were whole frames. */
static size_t take_frames(struct client *client, const unsigned char *data, size_t size) {
    size_t at = 0;
    while (size - at >= 2) {
        const unsigned char *frame = data + at;
        size_t header = frame[1] < 126 ? 2 : frame[1] == 126 ? 4 : 10, length = frame[1];
        if (frame[1] > 127) fail("a masked frame");
        if (size - at < header) break;
        if (header == 4) length = (size_t)frame[2] << 8 | frame[3];
        if (header == 10) length = (size_t)frame[7] << 16 | (size_t)frame[8] << 8 | frame[9];
        if ((header == 4 && length < 126) || (header == 10 && (length < 65536 || length > JOINED / 2)))
            fail("a length that is not the shortest, or too long");
        if (size - at < header + length) break;
        const unsigned char *content = frame + header;
        if (frame[0] == 0x81) take_text(client, (const char *)content, length);
        else if (frame[0] == 0x89) send_control(client, 10, content, length);
        else if (frame[0] == 0x88) client->state = CLOSED;
        else fail("a frame that should not come");
        at += header + length;
    }
    return at;
}

/* Sending. */

int write_some(struct client *client, const void *data, size_t size) {
    int written = SSL_write(client->ssl, data, (int)size);
    if (written > 0) return written;
    int error = SSL_get_error(client->ssl, written);
    return error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ ? 0 : -1;
}

void write_all(struct client *client, const void *data, size_t size) {
    struct pollfd wanted = {.fd = client->fd, .events = POLLOUT};
    for (const unsigned char *from = data; size;) {
        int written = write_some(client, from, size);
        if (written < 0) fail("the server ended a connection");
        if (!written && poll(&wanted, 1, STALL_MS) <= 0) fail("the server reads no more");
        from += written;
        size -= (size_t)written;
    }
}

void send_control(struct client *client, unsigned opcode, const unsigned char *content, size_t size) {
    unsigned char frame[6 + 125] = {(unsigned char)(0x80 | opcode), (unsigned char)(0x80 | size)};
    if (size) memcpy(frame + 6, content, size); /* masked with zero */
    write_all(client, frame, 6 + size);
}

void send_text(struct client *client, const char *text) {
    unsigned char frame[8192];
    write_all(client, frame, text_frame(text, strlen(text), frame));
}

/* Receiving. */

static size_t take_head(struct client *client, const unsigned char *data, size_t size) {
    const unsigned char *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end) return 0;
    if (memcmp(data, "HTTP/1.1 101", 12) && client->ignores) {
        client->state = CLOSED;
        return size;
    }
    if (memcmp(data, "HTTP/1.1 101", 12)) {
        fprintf(stderr, "%.*s\n", (int)size, data);
        fail("not upgraded");
    }
    client->state = options.dialect == PLAIN ? OPEN : GREET;
    if (options.dialect == CHANNEL) ready(client, NULL, 0);
    return (size_t)(end - data) + 4;
}

/* Read what is there; return 0 once the connection has ended. What is incomplete is held until the rest comes: for that
 * time alone a client needs a buffer of its own. */
int receive(struct client *client) {
    static unsigned char space[JOINED + CHUNK];
    size_t size = client->held_size;
    if (size) memcpy(space, client->held, size);
    free(client->held);
    client->held = NULL;
    client->held_size = 0;
    int alive = 1;
    do {
        int got = SSL_read(client->ssl, space + size, CHUNK);
        if (got <= 0) {
            alive = SSL_get_error(client->ssl, got) == SSL_ERROR_WANT_READ;
            break;
        }
        size += (size_t)got;
        size_t taken = client->state == HEAD ? take_head(client, space, size) : 0;
        if (client->state != HEAD) taken += take_frames(client, space + taken, size - taken);
        size -= taken;
        memmove(space, space + taken, size);
        if (size > JOINED) fail("a frame without end");
    } while (1);
    if (size && alive) {
        client->held = malloc(size);
        memcpy(client->held, space, size);
        client->held_size = size;
    }
    return alive;
}
