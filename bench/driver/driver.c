/* The driver: the clients of one measurement, and the only judge of what arrived.
 *
 * It opens N TLS connections, upgrades each, does one kind of work for a number of seconds, and writes one line of JSON:
 * what the server's process used of the CPU meanwhile (nanoseconds, from the process's own clock), how long things took,
 * and how busy the driver itself was. It never trusts the server: each frame is parsed, its header must be the shortest,
 * its payload must be the message that was due for that client, and it must not come back to its sender (but for the one
 * server that cannot do that: with TO_SENDER 1 it must).
 *
 *   fanout     one client publishes; the next message is sent only when all others have it
 *   burst      the same with DEPTH messages back to back, in one write
 *   echo       every client sends, waits for its own message, and sends the next
 *   handshake  opening the connections, one after another, is the work
 *   idle       the connections are opened and then say nothing: resident memory before and after
 *
 * driver WORK PORT PID CLIENTS SECONDS DEPTH PATH TO_SENDER [TOKEN]
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 128, HEADER = 4, FRAME = HEADER + SIZE, MASKED = FRAME + 4, EVENTS = 512, CHUNK = 16384, MOST = 256 };
enum { SAMPLES = 1 << 20, STALL_MS = 20000 };

struct client {
    SSL *ssl;
    int fd;
    int open;
    uint64_t due;                 /* the number of the next message this client must get */
    int64_t sent_at;              /* of its own message, in echo */
    unsigned char part[CHUNK + FRAME]; /* an incomplete frame, then what is read behind it */
    size_t held;
};

static struct client *clients;
static int count, loop, open_count;
static int to_sender; /* whether the server sends a message back to its sender as well */
static uint64_t missing; /* messages that are on their way */
static clockid_t server_clock;
static int64_t *samples;
static size_t sampled;

static void fail(const char *what) {
    fprintf(stderr, "driver: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    ERR_print_errors_fp(stderr);
    exit(1);
}

static int64_t nanoseconds(clockid_t clock) {
    struct timespec now;
    if (clock_gettime(clock, &now)) fail("the server is gone");
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void sample(int64_t took) {
    if (sampled < SAMPLES) samples[sampled++] = took;
}

/* Messages. A payload is its number in hex and a filler of ASCII; clients mask (RFC 6455 §5.3). */

static const char FILLER[] = "The quick brown fox jumps over the lazy dog, while nine ancient wizards quietly box up a "
                             "hexagonal lock of jade and wax.........";
_Static_assert(sizeof FILLER == SIZE + 1, "the filler ends behind the payload: no NUL in a text message");

static void payload_of(uint64_t number, unsigned char *payload) {
    static const char digits[] = "0123456789abcdef";
    memcpy(payload, FILLER, SIZE);
    for (int i = 15; i >= 0; i--, number >>= 4) payload[i] = (unsigned char)digits[number & 15];
}

static size_t masked_frame(uint64_t number, unsigned char *frame) {
    static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    frame[0] = 0x81;
    frame[1] = 0x80 | 126;
    frame[2] = SIZE >> 8;
    frame[3] = SIZE & 0xff;
    memcpy(frame + 4, mask, 4);
    payload_of(number, frame + 8);
    for (int i = 0; i < SIZE; i++) frame[8 + i] ^= mask[i & 3];
    return MASKED;
}

static void write_all(struct client *client, const void *data, size_t size) {
    while (SSL_write(client->ssl, data, (int)size) <= 0)
        if (!SSL_want_write(client->ssl)) fail("the server ended a connection");
}

static void send_control(struct client *client, unsigned opcode, const unsigned char *payload, size_t size) {
    unsigned char frame[6 + 125] = {(unsigned char)(0x80 | opcode), (unsigned char)(0x80 | size)};
    if (size) memcpy(frame + 6, payload, size); /* masked with zero */
    write_all(client, frame, 6 + size);
}

/* Return how many bytes were whole frames; messages are counted off `missing`. */
static size_t take_frames(struct client *client, const unsigned char *data, size_t size) {
    static unsigned char expected[SIZE];
    static uint64_t expects = UINT64_MAX;
    size_t at = 0;
    while (size - at >= 2) {
        const unsigned char *frame = data + at;
        if (frame[0] == 0x81) {
            if (size - at < FRAME) break;
            if (frame[1] != 126 || frame[2] != SIZE >> 8 || frame[3] != (SIZE & 0xff)) fail("a message of another size");
            if (expects != client->due) payload_of(expects = client->due, expected);
            if (memcmp(frame + HEADER, expected, SIZE)) {
                fprintf(stderr, "client %d got %.20s, due was %.20s\n", (int)(client - clients), frame + HEADER, expected);
                fail("a message that was not due");
            }
            client->due++;
            if (!missing--) fail("a message nobody waits for");
            at += FRAME;
        } else {
            if (frame[1] > 125) fail("a frame that should not come");
            size_t length = frame[1];
            if (size - at < 2 + length) break;
            if (frame[0] == 0x89) send_control(client, 10, frame + 2, length);
            else if (frame[0] == 0x88) client->open = 0;
            else fail("a frame that should not come");
            at += 2 + length;
        }
    }
    return at;
}

/* Read what is there; return 0 once the connection has ended. */
static int receive(struct client *client) {
    for (;;) {
        int got = SSL_read(client->ssl, client->part + client->held, CHUNK);
        if (got <= 0) {
            int error = SSL_get_error(client->ssl, got);
            ERR_clear_error();
            return error == SSL_ERROR_WANT_READ;
        }
        size_t size = client->held + (size_t)got, taken = take_frames(client, client->part, size);
        client->held = size - taken;
        memmove(client->part, client->part + taken, client->held);
        if (!SSL_has_pending(client->ssl)) return 1;
    }
}

/* Opening. */

static void open_client(SSL_CTX *context, struct client *client, int port, const char *request, const char *host) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = STALL_MS / 1000};
    setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    client->ssl = SSL_new(context);
    SSL_set_fd(client->ssl, client->fd);
    SSL_set_tlsext_host_name(client->ssl, host);
    if (SSL_connect(client->ssl) != 1) fail("TLS");
    if (SSL_version(client->ssl) != TLS1_3_VERSION || SSL_session_reused(client->ssl)) fail("not a full TLS 1.3 handshake");
    write_all(client, request, strlen(request));
    for (;;) {
        int got = SSL_read(client->ssl, client->part + client->held, CHUNK);
        if (got <= 0) fail("no answer to the upgrade");
        client->held += (size_t)got;
        unsigned char *end = memmem(client->part, client->held, "\r\n\r\n", 4);
        if (!end) continue;
        if (memcmp(client->part, "HTTP/1.1 101", 12)) {
            fprintf(stderr, "%.*s\n", (int)client->held, client->part);
            fail("not upgraded");
        }
        size_t head = (size_t)(end - client->part) + 4;
        client->held -= head;
        memmove(client->part, client->part + head, client->held);
        break;
    }
    fcntl(client->fd, F_SETFL, O_NONBLOCK);
    client->open = 1;
    open_count++;
}

static void listen_to(int which) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)which};
    epoll_ctl(loop, EPOLL_CTL_ADD, clients[which].fd, &event);
}

/* Say goodbye to all and wait until the server has closed, so that the next measurement finds it at rest. */
static void close_all(void) {
    static const unsigned char normal[2] = {0x03, 0xe8};
    struct epoll_event events[EVENTS];
    for (int i = 0; i < count; i++)
        if (clients[i].open) send_control(&clients[i], 8, normal, 2);
    int64_t patience = nanoseconds(CLOCK_MONOTONIC) + 3000000000;
    while (open_count && nanoseconds(CLOCK_MONOTONIC) < patience) {
        int ready = epoll_wait(loop, events, EVENTS, 100);
        for (int i = 0; i < ready; i++) {
            struct client *client = &clients[events[i].data.u32];
            if (receive(client) && client->open) continue;
            SSL_shutdown(client->ssl);
            close(client->fd);
            open_count--;
        }
    }
}

/* Work. */

/* It asks again and again rather than sleep: to wake a sleeping process on the same machine costs the server's process
 * microseconds, which clients on other machines would not, and the more the slower the server is. */
static void wait_for_all(void (*then)(struct client *, int64_t)) {
    struct epoll_event events[EVENTS];
    int64_t patience = nanoseconds(CLOCK_MONOTONIC) + (int64_t)STALL_MS * 1000000;
    while (missing) {
        int ready = epoll_wait(loop, events, EVENTS, 0);
        if (!ready && nanoseconds(CLOCK_MONOTONIC) > patience) fail("messages did not arrive");
        for (int i = 0; i < ready; i++) {
            struct client *client = &clients[events[i].data.u32];
            uint64_t due = client->due;
            if (!receive(client) || !client->open) fail("the server ended a connection");
            if (then && client->due != due) then(client, nanoseconds(CLOCK_MONOTONIC));
        }
    }
}

/* Publish messages until the time is over; return how many deliveries that were. */
static uint64_t publish(double seconds, int depth, uint64_t *number) {
    unsigned char data[MOST * MASKED];
    uint64_t deliveries = 0;
    int64_t end = nanoseconds(CLOCK_MONOTONIC) + (int64_t)(seconds * 1e9), now;
    while ((now = nanoseconds(CLOCK_MONOTONIC)) < end) {
        size_t size = 0;
        for (int i = 0; i < depth; i++) size += masked_frame((*number)++, data + size);
        missing = (uint64_t)depth * (uint64_t)(to_sender ? count : count - 1);
        deliveries += missing;
        if (!to_sender) clients[0].due = UINT64_MAX; /* nothing is due for the sender */
        write_all(&clients[0], data, size);
        wait_for_all(NULL);
        sample(nanoseconds(CLOCK_MONOTONIC) - now);
    }
    return deliveries;
}

static int64_t echo_end;
static uint64_t echoed;

static void send_own(struct client *client, int64_t now) {
    unsigned char frame[MASKED];
    masked_frame(client->due, frame);
    client->sent_at = now;
    missing++;
    write_all(client, frame, MASKED);
}

static void echo_next(struct client *client, int64_t now) {
    sample(now - client->sent_at);
    echoed++;
    if (now < echo_end) send_own(client, now);
}

static uint64_t echo(double seconds) {
    int64_t now = nanoseconds(CLOCK_MONOTONIC);
    echo_end = now + (int64_t)(seconds * 1e9);
    echoed = 0;
    for (int i = 0; i < count; i++) send_own(&clients[i], nanoseconds(CLOCK_MONOTONIC));
    wait_for_all(echo_next);
    return echoed;
}

static long resident(const char *pid) {
    char path[64], line[128];
    long kib = -1;
    snprintf(path, sizeof path, "/proc/%s/smaps_rollup", pid);
    FILE *file = fopen(path, "r");
    while (file && kib < 0 && fgets(line, sizeof line, file)) sscanf(line, "Rss: %ld", &kib);
    if (file) fclose(file);
    return kib;
}

static int by_size(const void *one, const void *other) {
    int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;
    return (a > b) - (a < b);
}

static double percentile(double share) {
    return sampled ? (double)samples[(size_t)((double)(sampled - 1) * share)] / 1e3 : 0;
}

int main(int words, char **word) {
    if (words < 9) return fprintf(stderr, "driver WORK PORT PID CLIENTS SECONDS DEPTH PATH TO_SENDER [TOKEN]\n"), 2;
    const char *work = word[1], *pid = word[3], *path = word[7], *token = words > 9 ? word[9] : NULL;
    to_sender = atoi(word[8]);
    int port = atoi(word[2]), depth = atoi(word[6]);
    double seconds = atof(word[5]);
    count = atoi(word[4]);
    if (depth < 1 || depth > MOST || count < 2) return fprintf(stderr, "CLIENTS from 2, DEPTH from 1 to 256\n"), 2;
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (clock_getcpuclockid(atoi(pid), &server_clock)) fail("no such server");

    /* The same cipher, group and certificate for every server: what differs is the server. */
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384");
    SSL_CTX_set1_groups_list(context, "X25519");
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);

    static char request[8192];
    snprintf(request, sizeof request,
             "GET %s HTTP/1.1\r\nHost: localhost:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s%s%s\r\n",
             path, port, token ? "Authorization: Bearer " : "", token ? token : "", token ? "\r\n" : "");

    clients = calloc((size_t)count, sizeof *clients);
    samples = malloc(SAMPLES * sizeof *samples);
    loop = epoll_create1(EPOLL_CLOEXEC);
    int opening = !strcmp(work, "handshake"), idle = !strcmp(work, "idle");
    long before = idle ? resident(pid) : 0, after = 0;

    int64_t wall = nanoseconds(CLOCK_MONOTONIC), cpu = nanoseconds(server_clock);
    int64_t own = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < count; i++) {
        int64_t start = nanoseconds(CLOCK_MONOTONIC);
        open_client(context, &clients[i], port, request, "localhost");
        if (opening) sample(nanoseconds(CLOCK_MONOTONIC) - start);
    }
    uint64_t units = (uint64_t)count, number = 0;
    for (int i = 0; i < count; i++) listen_to(i);
    if (idle) {
        usleep(700000);
        after = resident(pid);
    } else if (!opening) {
        double warm = seconds / 5;
        usleep(100000);
        if (!strcmp(work, "echo")) echo(warm);
        else publish(warm, depth, &number);
        sampled = 0;
        wall = nanoseconds(CLOCK_MONOTONIC), cpu = nanoseconds(server_clock), own = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
        units = !strcmp(work, "echo") ? echo(seconds) : publish(seconds, depth, &number);
    }
    cpu = nanoseconds(server_clock) - cpu;
    wall = nanoseconds(CLOCK_MONOTONIC) - wall;
    own = nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - own;
    qsort(samples, sampled, sizeof *samples, by_size);
    printf("{\"units\": %llu, \"server_ns\": %lld, \"wall_ns\": %lld, \"driver_ns\": %lld, \"p50_us\": %.1f, \"p99_us\": %.1f, "
           "\"kib_before\": %ld, \"kib_after\": %ld}\n",
           (unsigned long long)units, (long long)cpu, (long long)wall, (long long)own, percentile(0.5), percentile(0.99),
           before, after);
    fflush(stdout);
    close_all();
    return 0;
}
