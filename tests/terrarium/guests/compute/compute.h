/* compute.h: the functions of Fastly Compute's interface that app.c imports, written down from its public description. */

#include <stddef.h>
#include <stdint.h>

#define FROM(module, name, ...)                                                                                        \
    __attribute__((import_module(#module), import_name(#name))) uint32_t module##_##name(__VA_ARGS__)

enum { OK, ERROR, INVAL, BADF, BUFLEN, UNSUPPORTED, NONE = 10 };
#define INVALID 0xfffffffe

FROM(fastly_abi, init, uint64_t version);
FROM(fastly_http_req, body_downstream_get, uint32_t *request, uint32_t *body);
FROM(fastly_http_req, new, uint32_t *request);
FROM(fastly_http_req, method_get, uint32_t, char *, size_t, size_t *written);
FROM(fastly_http_req, method_set, uint32_t, const char *, size_t);
FROM(fastly_http_req, uri_get, uint32_t, char *, size_t, size_t *written);
FROM(fastly_http_req, uri_set, uint32_t, const char *, size_t);
FROM(fastly_http_req, version_get, uint32_t, uint32_t *);
FROM(fastly_http_req, header_names_get, uint32_t, char *, size_t, uint32_t cursor, int64_t *next, size_t *written);
FROM(fastly_http_req, header_values_get, uint32_t, const char *, size_t, char *, size_t, uint32_t, int64_t *, size_t *);
FROM(fastly_http_req, header_insert, uint32_t, const char *, size_t, const char *, size_t);
FROM(fastly_http_req, downstream_client_ip_addr, uint8_t *octets, size_t *written);
FROM(fastly_http_req, send, uint32_t, uint32_t body, const char *, size_t, uint32_t *response, uint32_t *answer);
FROM(fastly_http_req, send_async, uint32_t, uint32_t body, const char *, size_t, uint32_t *pending);
FROM(fastly_http_req, send_async_streaming, uint32_t, uint32_t body, const char *, size_t, uint32_t *pending);
FROM(fastly_http_req, pending_req_wait, uint32_t, uint32_t *response, uint32_t *answer);
FROM(fastly_http_req, pending_req_select, const uint32_t *, size_t, uint32_t *done, uint32_t *response,
     uint32_t *answer);
FROM(fastly_http_resp, new, uint32_t *response);
FROM(fastly_http_resp, status_get, uint32_t, uint16_t *);
FROM(fastly_http_resp, status_set, uint32_t, uint32_t);
FROM(fastly_http_resp, header_append, uint32_t, const char *, size_t, const char *, size_t);
FROM(fastly_http_resp, send_downstream, uint32_t, uint32_t body, uint32_t streaming);
FROM(fastly_http_body, new, uint32_t *body);
FROM(fastly_http_body, append, uint32_t, uint32_t);
FROM(fastly_http_body, read, uint32_t, char *, size_t, size_t *read);
FROM(fastly_http_body, write, uint32_t, const char *, size_t, uint32_t front, size_t *written);
FROM(fastly_http_body, close, uint32_t);
FROM(fastly_async_io, select, const uint32_t *, size_t, uint32_t milliseconds, uint32_t *ready);
FROM(fastly_log, endpoint_get, const char *, size_t, uint32_t *endpoint);
FROM(fastly_log, write, uint32_t, const char *, size_t, size_t *written);
FROM(fastly_config_store, open, const char *, size_t, uint32_t *store);
FROM(fastly_config_store, get, uint32_t, const char *, size_t, char *, size_t, size_t *written);
FROM(fastly_secret_store, open, const char *, size_t, uint32_t *store);
FROM(fastly_secret_store, get, uint32_t, const char *, size_t, uint32_t *secret);
FROM(fastly_secret_store, plaintext, uint32_t, char *, size_t, size_t *written);

struct insert_config {
    uint32_t mode, unused;
    const char *metadata;
    uint32_t metadata_len, time_to_live_sec;
    uint64_t if_generation_match;
};
FROM(fastly_kv_store, open, const char *, size_t, uint32_t *store);
FROM(fastly_kv_store, lookup, uint32_t, const char *, size_t, uint32_t, const void *, uint32_t *lookup);
FROM(fastly_kv_store, lookup_wait_v2, uint32_t, uint32_t *body, char *, size_t, size_t *, uint64_t *generation,
     uint32_t *error);
FROM(fastly_kv_store, insert, uint32_t, const char *, size_t, uint32_t body, uint32_t, const struct insert_config *,
     uint32_t *);
FROM(fastly_kv_store, insert_wait, uint32_t, uint32_t *error);
FROM(fastly_shielding, shield_info, const char *, size_t, char *, size_t, size_t *);
