/* app.c: an application for Fastly Compute's interface: a route for each part of it. */

#include "compute.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint32_t request, request_body, response, answer;
static int is_streaming;
static char path[1024], method[32];

static void check(const char *what, uint32_t status) {
    if (status != OK) {
        fprintf(stderr, "%s: status %u\n", what, status);
        exit(70);
    }
}

static void put(const char *data, size_t size) {
    size_t written;
    while (size) {
        check("write", fastly_http_body_write(answer, data, size, 0, &written));
        data += written, size -= written;
    }
}

static void say(const char *format, ...) {
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    put(text, (size_t)vsnprintf(text, sizeof text, format, arguments));
    va_end(arguments);
}

static uint32_t make_body(const char *text) {
    uint32_t body;
    size_t written;
    check("body", fastly_http_body_new(&body));
    if (*text)
        check("write", fastly_http_body_write(body, text, strlen(text), 0, &written));
    return body;
}

static uint32_t make_request(const char *uri) {
    uint32_t made;
    check("request", fastly_http_req_new(&made));
    check("uri", fastly_http_req_uri_set(made, uri, strlen(uri)));
    return made;
}

static void begin(void) {
    check("send", fastly_http_resp_send_downstream(response, answer, 1));
    is_streaming = 1;
}

/* ---- routes ---- */

static void hello(void) {
    say("Hello from C!\n");
}

static void head(void) {
    char uri[1024], names[64], values[64];
    size_t size;
    uint32_t version;
    int64_t next = 0;
    check("uri", fastly_http_req_uri_get(request, uri, sizeof uri, &size));
    check("version", fastly_http_req_version_get(request, &version));
    say("%s %.*s %u\n", method, (int)size, uri, version);
    for (uint32_t cursor = 0; next >= 0; cursor = (uint32_t)next) { /* a buffer for a few at a time */
        check("names", fastly_http_req_header_names_get(request, names, sizeof names, cursor, &next, &size));
        for (const char *name = names; name < names + size; name += strlen(name) + 1) {
            int64_t more = 0;
            size_t length;
            say("%s:", name);
            for (uint32_t value = 0; more >= 0; value = (uint32_t)more) {
                check("values", fastly_http_req_header_values_get(request, name, strlen(name), values, sizeof values,
                                                                  value, &more, &length));
                for (const char *one = values; one < values + length; one += strlen(one) + 1)
                    say(" [%s]", one);
            }
            say("\n");
        }
    }
    uint8_t octets[16];
    check("address", fastly_http_req_downstream_client_ip_addr(octets, &size));
    for (size_t i = 0; i < size; i++)
        say("%u%s", octets[i], i + 1 < size ? "." : "\n");
}

static void not_found(void) {
    check("status", fastly_http_resp_status_set(response, 404));
    check("header", fastly_http_resp_header_append(response, "X-Reason", 8, "no route", 8));
    say("no %s\n", path);
}

static void echo(void) {
    static char buffer[8192];
    size_t size;
    begin();
    while (check("read", fastly_http_body_read(request_body, buffer, sizeof buffer, &size)), size)
        put(buffer, size);
}

static void upper(void) {
    static char buffer[1000];
    size_t size;
    while (check("read", fastly_http_body_read(request_body, buffer, sizeof buffer, &size)), size) {
        for (size_t i = 0; i < size; i++)
            buffer[i] -= buffer[i] >= 'a' && buffer[i] <= 'z' ? 32 : 0;
        put(buffer, size);
    }
}

static void stream(void) {
    begin();
    for (int i = 0; i < 1000; i++)
        say("line %d\n", i);
}

static void pass(void) {
    check("append", fastly_http_body_append(answer, make_body("<")));
    check("append", fastly_http_body_append(answer, request_body));
    say(">");
}

static void fetch(void) {
    uint32_t asked = make_request("http://origin.test/asked?by=c"), body;
    uint16_t status;
    check("method", fastly_http_req_method_set(asked, "PUT", 3));
    check("header", fastly_http_req_header_insert(asked, "X-From", 6, "app.c", 5));
    check("send", fastly_http_req_send(asked, make_body("asking"), "origin", 6, &response, &body));
    check("status", fastly_http_resp_status_get(response, &status));
    say("origin said %u: ", status);
    check("append", fastly_http_body_append(answer, body));
}

static void parallel(void) {
    uint32_t pending[3], ready, done, other, body;
    for (int i = 0; i < 3; i++) {
        char uri[64];
        snprintf(uri, sizeof uri, "http://origin.test/slow/%d", 2 - i);
        check("send_async", fastly_http_req_send_async(make_request(uri), make_body(""), "origin", 6, &pending[i]));
    }
    for (int left = 3; left; left--) {
        check("select", fastly_async_io_select(pending, (size_t)left, 0, &ready));
        check("pending", fastly_http_req_pending_req_select(pending, (size_t)left, &done, &other, &body));
        say("%u ", ready == done);
        char text[16];
        size_t size;
        while (check("read", fastly_http_body_read(body, text, sizeof text, &size)), size)
            put(text, size);
        say("\n");
        memmove(pending + done, pending + done + 1, (size_t)(left - 1 - (int)done) * sizeof *pending);
    }
}

static void upload(void) {
    uint32_t pending, sent = make_body("begin "), other, body;
    size_t written;
    check("send",
          fastly_http_req_send_async_streaming(make_request("http://origin.test/up"), sent, "origin", 6, &pending));
    for (int i = 0; i < 3; i++)
        check("write", fastly_http_body_write(sent, "more ", 5, 0, &written));
    check("append", fastly_http_body_append(sent, request_body));
    check("close", fastly_http_body_close(sent));
    check("wait", fastly_http_req_pending_req_wait(pending, &other, &body));
    check("append", fastly_http_body_append(answer, body));
}

static void stores(void) {
    uint32_t store, secret;
    char text[64];
    size_t size;
    check("open", fastly_config_store_open("settings", 8, &store));
    check("get", fastly_config_store_get(store, "greeting", 8, text, sizeof text, &size));
    say("greeting %.*s\n", (int)size, text);
    say("absent %u\n", fastly_config_store_get(store, "absent", 6, text, sizeof text, &size));
    say("short %u", fastly_config_store_get(store, "greeting", 8, text, 2, &size));
    say(" needs %zu\n", size);
    check("secrets", fastly_secret_store_open("vault", 5, &store));
    check("secret", fastly_secret_store_get(store, "key", 3, &secret));
    check("plaintext", fastly_secret_store_plaintext(secret, text, sizeof text, &size));
    say("secret %.*s\n", (int)size, text);
}

static void count(void) {
    uint32_t store, lookup, insert, body = INVALID, error;
    char text[32] = "", about[16];
    size_t size = 0, written;
    uint64_t generation = 0;
    check("open", fastly_kv_store_open("counts", 6, &store));
    check("lookup", fastly_kv_store_lookup(store, "count", 5, 0, NULL, &lookup));
    check("wait", fastly_kv_store_lookup_wait_v2(lookup, &body, about, sizeof about, &size, &generation, &error));
    if (error == 1)
        check("read", fastly_http_body_read(body, text, sizeof text - 1, &written));
    say("%d, %.*s, generation %d\n", atoi(text), (int)size, about, generation != 0);
    snprintf(text, sizeof text, "%d", atoi(text) + 1);
    struct insert_config config = {.metadata = "by app.c", .metadata_len = 8};
    check("insert", fastly_kv_store_insert(store, "count", 5, make_body(text), 8, &config, &insert));
    check("wait", fastly_kv_store_insert_wait(insert, &error));
    say("error %u\n", error);
}

static void logs(void) {
    uint32_t endpoint;
    size_t written;
    check("endpoint", fastly_log_endpoint_get("access", 6, &endpoint));
    check("write", fastly_log_write(endpoint, "one line", 8, &written));
    puts("printed");
    fprintf(stderr, "and %s\n", "complained");
    say("version %s of %s\n", getenv("FASTLY_SERVICE_VERSION"), getenv("FASTLY_SERVICE_ID"));
}

static void nap(void) {
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    nanosleep(&(struct timespec){0, 20000000}, NULL);
    clock_gettime(CLOCK_MONOTONIC, &after);
    long long took = (after.tv_sec - before.tv_sec) * 1000000000LL + after.tv_nsec - before.tv_nsec;
    say("slept: %d\n", took >= 20000000);
}

static void unsupported(void) {
    char text[16];
    size_t size;
    say("status %u\n", fastly_shielding_shield_info("name", 4, text, sizeof text, &size));
}

static void loop(void) {
    for (volatile unsigned i = 0;; i++)
        ;
}

static void crash(void) {
    say("lost");
    __builtin_trap();
}

static const struct {
    const char *path;
    void (*serve)(void);
} routes[] = {
    {"/", hello},        {"/head", head},
    {"/echo", echo},     {"/upper", upper},
    {"/stream", stream}, {"/pass", pass},
    {"/fetch", fetch},   {"/parallel", parallel},
    {"/upload", upload}, {"/stores", stores},
    {"/count", count},   {"/logs", logs},
    {"/nap", nap},       {"/unsupported", unsupported},
    {"/loop", loop},     {"/crash", crash},
};

int main(void) {
    size_t size;
    char uri[1024];
    check("init", fastly_abi_init(1));
    check("request", fastly_http_req_body_downstream_get(&request, &request_body));
    check("method", fastly_http_req_method_get(request, method, sizeof method - 1, &size));
    check("uri", fastly_http_req_uri_get(request, uri, sizeof uri - 1, &size));
    uri[size] = 0;
    const char *start = strchr(strstr(uri, "://") + 3, '/');
    snprintf(path, sizeof path, "%.*s", (int)strcspn(start, "?"), start);
    check("response", fastly_http_resp_new(&response));
    check("body", fastly_http_body_new(&answer));
    void (*serve)(void) = not_found;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (strcmp(routes[i].path, path) == 0)
            serve = routes[i].serve;
    serve();
    if (is_streaming)
        check("close", fastly_http_body_close(answer));
    else
        check("send", fastly_http_resp_send_downstream(response, answer, 0));
    return 0;
}
