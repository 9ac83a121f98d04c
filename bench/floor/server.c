/* The floor: TLS and WebSocket with nothing else in between, to which every server is compared.
 *
 * One thread, epoll, OpenSSL on the socket. It accepts, does the TLS 1.3 handshake, answers the upgrade, and then
 * writes the frame to each client with one SSL_write: `/` and each `/room/N` send a message to everyone there but its
 * sender, `/echo` sends it back. No checks, no batching, no framework. What it leaves out it may leave out because only the benchmark's driver
 * speaks to it: fragments, UTF-8, timeouts, limits.
 *
 * server PORT CERTIFICATE KEY
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 512, CHUNK = 16384, LONGEST = 1 << 20, ROOMS = 256 };
enum state { TLS, HEAD, OPEN, GONE };

struct buffer {
    unsigned char *data;
    size_t size;
};

struct client {
    SSL *ssl;
    int fd;
    enum state state;
    int echo;
    struct room *room;
    size_t place; /* in the room */
    struct buffer input;  /* an incomplete head or frame */
    struct buffer output; /* what the socket did not take */
};

struct room {
    struct client **clients;
    size_t members, capacity;
};

static int loop;
static struct room rooms[ROOMS + 1];

static void fail(const char *what) {
    perror(what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static void keep(struct buffer *buffer, const unsigned char *data, size_t size) {
    unsigned char *larger = realloc(buffer->data, buffer->size + size);
    if (!larger) fail("realloc");
    memcpy(larger + buffer->size, data, size);
    buffer->data = larger;
    buffer->size += size;
}

static void clear(struct buffer *buffer) {
    free(buffer->data);
    *buffer = (struct buffer){0};
}

static void join(struct client *client, struct room *room) {
    if (room->members == room->capacity) {
        room->capacity = room->capacity ? room->capacity * 2 : 64;
        room->clients = realloc(room->clients, room->capacity * sizeof *room->clients);
        if (!room->clients) fail("realloc");
    }
    client->room = room;
    client->place = room->members;
    room->clients[room->members++] = client;
}

static void leave(struct client *client) {
    struct room *room = client->room;
    room->clients[client->place] = room->clients[--room->members];
    room->clients[client->place]->place = client->place;
}

/* Freed once the loop's turn is over: an event for it may still be in the list. */
static struct client *gone[EVENTS * 4];
static size_t gone_count;

static void end(struct client *client) {
    if (client->state == GONE) return;
    if (client->state == OPEN && !client->echo) leave(client);
    client->state = GONE;
    if (gone_count < sizeof gone / sizeof *gone) gone[gone_count++] = client;
    SSL_shutdown(client->ssl);
    SSL_free(client->ssl);
    close(client->fd);
    clear(&client->input);
    clear(&client->output);
}

static void watch(struct client *client, unsigned events) {
    struct epoll_event event = {.events = events, .data.ptr = client};
    epoll_ctl(loop, EPOLL_CTL_MOD, client->fd, &event);
}

static void send_bytes(struct client *client, const unsigned char *data, size_t size) {
    if (client->state == GONE) return;
    if (client->output.size) {
        keep(&client->output, data, size);
        return;
    }
    int written = SSL_write(client->ssl, data, (int)size);
    if (written == (int)size) return;
    if (written <= 0 && SSL_get_error(client->ssl, written) != SSL_ERROR_WANT_WRITE) {
        ERR_clear_error();
        end(client);
        return;
    }
    if (written < 0) written = 0;
    keep(&client->output, data + written, size - (size_t)written);
    watch(client, EPOLLIN | EPOLLOUT);
}

static void send_rest(struct client *client) {
    struct buffer rest = client->output;
    client->output = (struct buffer){0};
    watch(client, EPOLLIN);
    send_bytes(client, rest.data, rest.size);
    free(rest.data);
}

/* Answer one frame, unmasked in place. The header of the answer takes the place of the mask. */
static void answer(struct client *client, unsigned opcode, unsigned char *payload, size_t size) {
    unsigned char *start = payload - (size < 126 ? 2 : 4);
    unsigned reply = opcode == 9 ? 10 : opcode;
    start[0] = (unsigned char)(0x80 | reply);
    start[1] = (unsigned char)(size < 126 ? size : 126);
    if (size >= 126) {
        start[2] = (unsigned char)(size >> 8);
        start[3] = (unsigned char)size;
    }
    size_t length = (size_t)(payload - start) + size;
    if (opcode == 8) {
        send_bytes(client, start, length);
        end(client);
    } else if (opcode == 9 || (opcode != 10 && client->echo)) {
        send_bytes(client, start, length);
    } else if (opcode != 10) {
        struct room *room = client->room;
        for (size_t i = room->members; i-- > 0;)
            if (room->clients[i] != client) send_bytes(room->clients[i], start, length);
    }
}

/* Return how many bytes were whole frames. */
static size_t take_frames(struct client *client, unsigned char *data, size_t size) {
    size_t at = 0;
    while (client->state == OPEN && size - at >= 6) {
        unsigned char *frame = data + at;
        size_t length = frame[1] & 0x7f, header = 2;
        if (length == 127) {
            end(client);
            break;
        }
        if (length == 126) {
            length = (size_t)frame[2] << 8 | frame[3];
            header = 4;
        }
        if (size - at < header + 4 + length) break;
        unsigned char *mask = frame + header, *payload = mask + 4;
        for (size_t i = 0; i < length; i++) payload[i] ^= mask[i & 3];
        answer(client, frame[0] & 0x0f, payload, length);
        at += header + 4 + length;
    }
    return at;
}

static size_t take_head(struct client *client, const unsigned char *data, size_t size) {
    const char *finish = memmem(data, size, "\r\n\r\n", 4);
    if (!finish) return 0;
    size_t length = (size_t)(finish - (const char *)data) + 4;
    char head[CHUNK + 1], text[128], accept[32], response[256];
    if (length > CHUNK) {
        end(client);
        return length;
    }
    memcpy(head, data, length);
    head[length] = 0;
    const char *key = strcasestr(head, "\r\nSec-WebSocket-Key:");
    if (!key || sscanf(key + 20, " %24s", text) != 1) {
        end(client);
        return length;
    }
    strcat(text, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"); /* RFC 6455 §1.3 */
    unsigned char digest[SHA_DIGEST_LENGTH];
    SHA1((unsigned char *)text, strlen(text), digest);
    EVP_EncodeBlock((unsigned char *)accept, digest, sizeof digest);
    int written = snprintf(response, sizeof response,
                           "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                           "Sec-WebSocket-Accept: %s\r\n\r\n",
                           accept);
    client->echo = !strncmp(head, "GET /echo ", 10);
    client->state = OPEN;
    unsigned number = 0;
    if (sscanf(head, "GET /room/%u ", &number) == 1) number = number % ROOMS + 1;
    if (!client->echo) join(client, &rooms[number]);
    send_bytes(client, (unsigned char *)response, (size_t)written);
    return length;
}

static void take(struct client *client, unsigned char *data, size_t size) {
    size_t at = 0, taken = 1;
    while (taken && at < size && client->state != GONE) {
        taken = client->state == OPEN ? take_frames(client, data + at, size - at) : take_head(client, data + at, size - at);
        at += taken;
    }
    if (client->state != GONE && at < size) {
        struct buffer rest = {0};
        keep(&rest, data + at, size - at);
        free(client->input.data);
        client->input = rest;
    } else if (client->input.data) {
        clear(&client->input);
    }
}

static void receive(struct client *client) {
    unsigned char space[CHUNK];
    if (client->state == TLS) {
        int done = SSL_accept(client->ssl);
        if (done != 1) {
            int error = SSL_get_error(client->ssl, done);
            if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
                ERR_clear_error();
                end(client);
            }
            return;
        }
        client->state = HEAD;
    }
    do {
        int got = SSL_read(client->ssl, space, CHUNK);
        if (got <= 0) {
            int error = SSL_get_error(client->ssl, got);
            ERR_clear_error();
            if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) end(client);
            return;
        }
        if (client->input.size) {
            keep(&client->input, space, (size_t)got);
            struct buffer whole = client->input;
            client->input = (struct buffer){0};
            if (whole.size > LONGEST) end(client);
            take(client, whole.data, whole.size);
            free(whole.data);
        } else {
            take(client, space, (size_t)got);
        }
    } while (client->state != GONE && SSL_has_pending(client->ssl));
}

static void welcome(SSL_CTX *context, int listening) {
    int fd, on = 1;
    while ((fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct client *client = calloc(1, sizeof *client);
        if (!client) fail("calloc");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        client->fd = fd;
        client->ssl = SSL_new(context);
        SSL_set_fd(client->ssl, fd);
        SSL_set_accept_state(client->ssl);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
        if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
    }
}

int main(int count, char **words) {
    if (count != 4) return fprintf(stderr, "server PORT CERTIFICATE KEY\n"), 2;
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1); /* one read for a record, where OpenSSL's default is two */
    if (SSL_CTX_use_certificate_chain_file(context, words[2]) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, words[3], SSL_FILETYPE_PEM) != 1)
        fail("certificate");

    int listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(words[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listening, (struct sockaddr *)&address, sizeof address) || listen(listening, 4096)) fail("bind");
    loop = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event events[EVENTS], accepting = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(loop, EPOLL_CTL_ADD, listening, &accepting);

    for (;;) {
        int ready = epoll_wait(loop, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            struct client *client = events[i].data.ptr;
            if (!client) {
                welcome(context, listening);
            } else if (client->state != GONE) {
                if (events[i].events & EPOLLOUT) send_rest(client);
                if (client->state != GONE && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(client);
            }
        }
        while (gone_count) free(gone[--gone_count]);
    }
}
