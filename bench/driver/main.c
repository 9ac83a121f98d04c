/* What is asked for, and what is told. Arguments are name=value; the token comes in the environment, DRIVER_TOKEN.
 *
 *   work=fanout|echo|publish|handshake|idle|chat|flood   what to do
 *   port= pid= path=                         where, and the process whose CPU counts
 *   clients= seconds= rest=                  how many, how long, and how long in silence after that
 *   turns=                                   so many times, each when a line comes on standard input, and so the
 *                                            silence; what opens for a handshake is dealt to the turns
 *   dialect=plain|socketio|channel channel=  what messages look like; the channel's name without its number
 *   size= depth= to_sender= in_connect=      bytes a message, messages in one write or in flight, ...
 *   rooms= rate= churn=                      chat: rooms, messages a second, connections that come and go a second
 *   channels= addresses=                     channels of a fan-out, source addresses
 */
#include "driver.h"
#include <errno.h>
#include <openssl/err.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

enum { SAMPLES = 1 << 21, CHURNING = 20 };

struct options options = {
    .work = "echo", .path = "/", .pid = "", .channel = "c", .clients = 300, .depth = 1, .size = 128, .addresses = 1,
    .channels = 1, .seconds = 1, .rate = 1, .churn = 10,
};
struct client *clients;
int count, loop, open_count;
uint64_t missing;

static clockid_t server_clock;
static int64_t *samples;
static size_t sampled;

void fail(const char *what) {
    fprintf(stderr, "driver: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    ERR_print_errors_fp(stderr);
    exit(1);
}

int64_t nanoseconds(clockid_t clock) {
    struct timespec now;
    if (clock_gettime(clock, &now)) fail("the server is gone");
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void sample(int64_t took) {
    if (sampled < SAMPLES) samples[sampled++] = took;
}

static void set_option(const char *word) {
    const char *value = strchr(word, '=');
    if (!value++) fail(word);
    struct { const char *name; int *number; double *real; const char **text; } known[] = {
        {"work", .text = &options.work}, {"path", .text = &options.path}, {"pid", .text = &options.pid},
        {"channel", .text = &options.channel}, {"port", .number = &options.port},
        {"clients", .number = &options.clients}, {"depth", .number = &options.depth}, {"size", .number = &options.size},
        {"rooms", .number = &options.rooms}, {"addresses", .number = &options.addresses},
        {"turns", .number = &options.turns},
        {"channels", .number = &options.channels}, {"to_sender", .number = &options.to_sender},
        {"in_connect", .number = &options.in_connect},
        {"seconds", .real = &options.seconds}, {"rate", .real = &options.rate}, {"churn", .real = &options.churn},
        {"rest", .real = &options.rest},
    };
    if (!strncmp(word, "dialect=", 8)) {
        options.dialect = !strcmp(value, "socketio") ? SOCKETIO : !strcmp(value, "channel") ? CHANNEL : PLAIN;
        return;
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t length = strlen(known[i].name);
        if (strncmp(word, known[i].name, length) || word[length] != '=') continue;
        if (known[i].text) *known[i].text = value;
        if (known[i].number) *known[i].number = atoi(value);
        if (known[i].real) *known[i].real = atof(value);
        return;
    }
    fail(word);
}

static long resident(void) {
    char path[64], line[128];
    long kib = -1;
    snprintf(path, sizeof path, "/proc/%s/smaps_rollup", options.pid);
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
    size_t below = (size_t)((double)sampled * share); /* the nearest rank, upwards: of few, the highest */
    return sampled ? (double)samples[below < sampled ? below : sampled - 1] / 1e3 : 0;
}

static int is(const char *work) { return !strcmp(options.work, work); }

/* Deal the clients to rooms or channels, before they open. */
static void deal(int most) {
    for (int i = 0; i < most; i++) {
        struct client *client = &clients[i];
        if (is("chat")) client->room = i < options.clients ? i % options.rooms : options.rooms + i - options.clients;
        else if (is("fanout")) client->room = i ? (i - 1) % options.channels : 0;
        client->subscribes = is("chat") || (is("fanout") && i);
    }
    clients[options.clients].ignores = is("flood");
}

static uint64_t *numbers;

static uint64_t work(double seconds) {
    if (is("echo")) return echo(seconds);
    if (is("publish")) return acknowledged(seconds);
    if (is("chat")) return chat(seconds);
    if (is("flood")) return paced(seconds);
    return publish(seconds, options.depth, numbers);
}

static void measure(int until, long before) {
    int opening = is("handshake"), idle = is("idle"), fresh = until > count;
    int64_t wall = nanoseconds(CLOCK_MONOTONIC), cpu = nanoseconds(server_clock);
    int64_t own = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t done = (uint64_t)(until - count);
    sampled = 0;
    open_all(until, opening ? sample : NULL);
    if (!opening) {
        if (fresh) rest(0.3);
        /* What others left in the processor's caches is not its cost. Who floods is new, as are its wrongs. */
        if (!idle && !flooding) work(options.seconds / 5);
        sampled = 0;
        flooded = flood_closed = 0;
        wall = nanoseconds(CLOCK_MONOTONIC), cpu = nanoseconds(server_clock), own = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
        done = idle ? (uint64_t)count : work(options.seconds);
    }
    cpu = nanoseconds(server_clock) - cpu;
    int64_t from = wall; /* of the clock that all processes share */
    wall = nanoseconds(CLOCK_MONOTONIC) - wall;
    own = nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - own;
    qsort(samples, sampled, sizeof *samples, by_size);
    printf("{\"clients\": %d, \"units\": %llu, \"server_ns\": %lld, \"wall_ns\": %lld, \"driver_ns\": %lld, "
           "\"p50_us\": %.1f, \"p99_us\": %.1f, \"most_us\": %.1f, \"kib_before\": %ld, \"kib_after\": %ld, "
           "\"flooding\": %d, \"flooded\": %llu, \"flood_closed\": %llu, \"from_ns\": %lld, \"until_ns\": %lld}\n",
           count, (unsigned long long)done, (long long)cpu, (long long)wall, (long long)own, percentile(0.5),
           percentile(0.99), percentile(1), before, resident(), flooding, (unsigned long long)flooded,
           (unsigned long long)flood_closed, (long long)from, (long long)(from + wall));
}

static void measure_rest(void) {
    int64_t wall = nanoseconds(CLOCK_MONOTONIC), cpu = nanoseconds(server_clock);
    rest(options.rest);
    cpu = nanoseconds(server_clock) - cpu;
    wall = nanoseconds(CLOCK_MONOTONIC) - wall;
    printf("{\"clients\": %d, \"rest_server_ns\": %lld, \"rest_wall_ns\": %lld}\n", count, (long long)cpu,
           (long long)wall);
}

/* Wait for a line on standard input, and answer pings meanwhile; 0 at its end. */
static int told_to_go_on(void) {
    struct pollfd waiting[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = loop, .events = POLLIN}};
    while (poll(waiting, 2, -1) > 0 && !waiting[0].revents) turn(0);
    return getchar() != EOF;
}

int main(int words, char **word) {
    for (int i = 1; i < words; i++) set_option(word[i]);
    options.token = getenv("DRIVER_TOKEN");
    if (options.token && !*options.token) options.token = NULL;
    if (options.depth < 1 || options.depth > MOST || options.size < 16 || options.size > LARGEST || !options.port ||
        options.addresses < 1 || options.addresses > 200 || options.channels < 1 || options.clients < 2)
        return fprintf(stderr, "depth 1 to 256, size 16 to 32768, addresses 1 to 200, clients from 2, a port\n"), 2;
    if (is("chat") && (options.rooms < 1 || options.clients % options.rooms)) fail("clients must fill the rooms");
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (clock_getcpuclockid(atoi(options.pid), &server_clock)) fail("no such server");

    int most = options.clients + (is("chat") ? CHURNING : 0);
    clients = calloc((size_t)most + 1, sizeof *clients);
    samples = malloc(SAMPLES * sizeof *samples);
    numbers = calloc((size_t)options.channels, sizeof *numbers);
    loop = epoll_create1(EPOLL_CLOEXEC);
    prepare_tls();
    prepare_texts();
    deal(most);
    setvbuf(stdin, NULL, _IONBF, 0);
    long before = resident();
    if (!options.turns) measure(most, before);
    if (is("flood")) {
        flooding = 1;
        measure(most, before);
        leave(&clients[options.clients]);
    }
    for (int turn = 1; turn <= options.turns && told_to_go_on(); turn++) {
        measure(is("handshake") ? most * turn / options.turns : most, before);
        fflush(stdout);
    }
    if (options.rest > 0 && (!options.turns || told_to_go_on())) measure_rest();
    fflush(stdout);
    close_all();
    return 0;
}
