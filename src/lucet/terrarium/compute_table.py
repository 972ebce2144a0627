"""Fastly Compute's core interface as data: status codes, and the functions with the types of their parameters.

The names and layouts are those of the public witx documents (`compute-at-edge.witx`, `typenames.witx`). A row says what
a function takes and, after "->", what it gives through out-pointers; every function returns a status. Kinds in a row:

- a handle, as what it stands for (`request`, `body`, ...); with "-" before it, the handle is used up by the call;
- `u32`, `u64`; `pointer`, to a structure that the function reads itself; `bytes` and `text`, a pointer and a length
  (`text` is UTF-8); `span`, the same without reading it; `handles`, an array of u32;
- given: a handle, `u16`, `u32`, `u64`; `value`, bytes for (buffer, length, written out), status BUFLEN and the needed
  length if they do not fit; `values`, for (buffer, length, cursor, next cursor out, written out), each value ended by a
  NUL, as many as fit; `chunk`, bytes for (buffer, length, written out), of which the function is told the length;
  `address`, at most 16 bytes for (buffer, written out).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MASK32: Final = 0xFFFFFFFF
INVALID_HANDLE: Final = 0xFFFFFFFE
"""What stands for no handle; and 0xFFFFFFFF, of which more is used as "no index"."""
NO_INDEX: Final = 0xFFFFFFFF


class Status:
    """`fastly_status`."""

    OK: Final = 0
    ERROR: Final = 1
    INVAL: Final = 2
    BADF: Final = 3
    BUFLEN: Final = 4
    UNSUPPORTED: Final = 5
    BADALIGN: Final = 6
    HTTPINVALID: Final = 7
    HTTPUSER: Final = 8
    HTTPINCOMPLETE: Final = 9
    NONE: Final = 10
    HTTPHEADTOOLARGE: Final = 11
    HTTPINVALIDSTATUS: Final = 12
    LIMITEXCEEDED: Final = 13
    AGAIN: Final = 14


class SendError:
    """`send_error_detail_tag`, as far as it is told apart here."""

    DESTINATION_NOT_FOUND: Final = 4
    DESTINATION_UNAVAILABLE: Final = 5
    INTERNAL_ERROR: Final = 20


class KvError:
    """`kv_error`."""

    OK: Final = 1
    BAD_REQUEST: Final = 2
    NOT_FOUND: Final = 3
    PRECONDITION_FAILED: Final = 4
    PAYLOAD_TOO_LARGE: Final = 5
    INTERNAL_ERROR: Final = 6


HANDLES: Final = frozenset(
    "request response body content pending dictionary kv kv-lookup kv-insert kv-delete kv-list secrets secret "
    "endpoint acl promise cache cache-busy item".split()
)
"""`body` is any body, `content` one that is not sent while it is written; `item`, whatever async_io can wait for."""

# A row: name, kinds, and "= function" where its name is not the module's (without "fastly_") and its own. "~" before
# a name: the call is accepted, and has no effect here or always the same answer.
_ROWS: Final = """
fastly_abi
  init                                      u64
fastly_http_body
  append                                    body -content
  new                                       -> body
  read                                      content -> chunk
  write                                     body span u32 -> u32
  close                                     -body
  abandon                                   -body
  trailer_append                            body bytes bytes
  trailer_names_get                         body -> values
  trailer_value_get                         body bytes -> value
  trailer_values_get                        body bytes -> values
  known_length                              body -> u64
fastly_http_req
  body_downstream_get                       -> u32 u32
  new                                       -> request
  close                                     -request = message_close
  method_get                                request -> value
  method_set                                request bytes
  uri_get                                   request -> value
  uri_set                                   request bytes
  version_get                               request -> u32 = version_get
  version_set                               request u32 = version_set
  header_names_get                          request -> values = header_names_get
  header_value_get                          request bytes -> value = header_value_get
  header_values_get                         request bytes -> values = header_values_get
  header_values_set                         request bytes bytes = header_values_set
  header_insert                             request bytes bytes = header_insert
  header_append                             request bytes bytes = header_append
  header_remove                             request bytes = header_remove
  original_header_names_get                 -> values
  original_header_count                     -> u32
  downstream_client_ip_addr                 -> address
  downstream_server_ip_addr                 -> address
  downstream_client_request_id              -> value
  ~downstream_client_h2_fingerprint         -> value = absent
  ~downstream_client_oh_fingerprint         -> value = absent
  ~downstream_client_ddos_detected          -> u32 = zero
  ~downstream_tls_cipher_openssl_name       -> value = absent
  ~downstream_tls_protocol                  -> value = absent
  ~downstream_tls_client_hello              -> value = absent
  ~downstream_tls_raw_client_certificate    -> value = absent
  ~downstream_tls_client_cert_verify_result -> u32 = absent
  ~downstream_tls_ja3_md5                   -> address = absent
  ~downstream_tls_ja4                       -> value = absent
  ~downstream_compliance_region             -> value = absent
  ~fastly_key_is_valid                      -> u32 = zero
  ~cache_override_set                       request u32 u32 u32 = nothing
  ~cache_override_v2_set                    request u32 u32 u32 bytes = nothing
  ~framing_headers_mode_set                 request u32 = framing_headers_mode_set
  auto_decompress_response_set              request u32
  send                                      -request -content text -> response body
  send_v2                                   -request -content text pointer -> response body
  send_v3                                   -request -content text pointer -> response body = http_req_send_v2
  send_async                                -request -content text -> pending
  send_async_v2                             -request content text u32 -> pending
  send_async_streaming                      -request content text -> pending
  pending_req_poll                          pending -> u32 u32 u32
  pending_req_poll_v2                       pending pointer -> u32 u32 u32 = http_req_pending_req_poll
  pending_req_wait                          -pending -> response body
  pending_req_wait_v2                       -pending pointer -> response body = http_req_pending_req_wait
  pending_req_select                        handles -> u32 u32 u32
  pending_req_select_v2                     handles pointer -> u32 u32 u32 = http_req_pending_req_select
  register_dynamic_backend                  text text u32 pointer
fastly_http_downstream
  next_request                              u32 pointer -> promise
  next_request_wait                         -promise -> u32 u32
  next_request_abandon                      -promise = nothing
  downstream_original_header_names          request -> values = http_req_original_header_names_get
  downstream_original_header_count          request -> u32 = http_req_original_header_count
  downstream_client_ip_addr                 request -> address = http_req_downstream_client_ip_addr
  downstream_server_ip_addr                 request -> address = http_req_downstream_server_ip_addr
  downstream_client_request_id              request -> value = http_req_downstream_client_request_id
  ~downstream_client_h2_fingerprint         request -> value = absent
  ~downstream_client_oh_fingerprint         request -> value = absent
  ~downstream_client_ddos_detected          request -> u32 = zero
  ~downstream_tls_cipher_openssl_name       request -> value = absent
  ~downstream_tls_protocol                  request -> value = absent
  ~downstream_tls_client_hello              request -> value = absent
  ~downstream_tls_raw_client_certificate    request -> value = absent
  ~downstream_tls_client_cert_verify_result request -> u32 = absent
  ~downstream_tls_client_servername         request -> value = absent
  ~downstream_tls_ja3_md5                   request -> address = absent
  ~downstream_tls_ja4                       request -> value = absent
  ~downstream_compliance_region             request -> value = absent
  ~fastly_key_is_valid                      request -> u32 = zero
  ~downstream_bot_analyzed                  request -> u32 = zero
  ~downstream_bot_detected                  request -> u32 = zero
  ~downstream_bot_name                      request -> value = absent
  ~downstream_bot_category                  request -> value = absent
  ~downstream_bot_category_kind             request -> u32 = absent
  ~downstream_bot_verified                  request -> u32 = zero
fastly_http_resp
  new                                       -> response
  close                                     -response = message_close
  status_get                                response -> u16
  status_set                                response u32
  version_get                               response -> u32 = version_get
  version_set                               response u32 = version_set
  header_names_get                          response -> values = header_names_get
  header_value_get                          response bytes -> value = header_value_get
  header_values_get                         response bytes -> values = header_values_get
  header_values_set                         response bytes bytes = header_values_set
  header_insert                             response bytes bytes = header_insert
  header_append                             response bytes bytes = header_append
  header_remove                             response bytes = header_remove
  send_downstream                           -response content u32
  ~framing_headers_mode_set                 response u32 = framing_headers_mode_set
  ~http_keepalive_mode_set                  response u32 = nothing
  ~get_addr_dest_ip                         response -> address = absent
  ~get_addr_dest_port                       response -> u16 = absent
fastly_async_io
  select                                    handles u32 -> u32
  is_ready                                  item -> u32
fastly_log
  endpoint_get                              text -> endpoint
  write                                     endpoint span -> u32
fastly_dictionary
  open                                      text -> dictionary
  get                                       dictionary text -> value
fastly_config_store
  open                                      text -> dictionary = dictionary_open
  get                                       dictionary text -> value = dictionary_get
fastly_secret_store
  open                                      text -> secrets
  get                                       secrets text -> secret
  plaintext                                 secret -> value
  from_bytes                                bytes -> secret
fastly_kv_store
  open                                      text -> kv
  lookup                                    kv text u32 pointer -> kv-lookup
  lookup_wait                               -kv-lookup -> body value u32 u32
  lookup_wait_v2                            -kv-lookup -> body value u64 u32
  insert                                    kv text -content u32 pointer -> kv-insert
  insert_wait                               -kv-insert -> u32
  delete                                    kv text u32 pointer -> kv-delete
  delete_wait                               -kv-delete -> u32
  list                                      kv u32 pointer -> kv-list
  list_wait                                 -kv-list -> body u32
fastly_object_store
  open                                      text -> kv = kv_store_open
  lookup                                    kv text -> body
  lookup_async                              kv text -> kv-lookup
  pending_lookup_wait                       -kv-lookup -> body
  insert                                    kv text -content
  insert_async                              kv text -content -> kv-insert
  pending_insert_wait                       -kv-insert
  delete_async                              kv text -> kv-delete
  pending_delete_wait                       -kv-delete
fastly_backend
  exists                                    text -> u32
  ~is_healthy                               text -> u32
  is_dynamic                                text -> u32
  get_host                                  text -> value
  get_override_host                         text -> value
  get_port                                  text -> u16
  is_ssl                                    text -> u32
fastly_geo
  lookup                                    bytes -> value
fastly_device_detection
  lookup                                    text -> value
fastly_acl
  open                                      text -> acl
  lookup                                    acl bytes -> body u32
fastly_erl
  check_rate                                text text u32 u32 u32 text u32 -> u32
  ratecounter_increment                     text text u32
  ratecounter_lookup_rate                   text text u32 -> u32
  ratecounter_lookup_count                  text text u32 -> u32
  penaltybox_add                            text text u32
  penaltybox_has                            text text -> u32
fastly_cache
  lookup                                    bytes u32 pointer -> cache
  insert                                    bytes u32 pointer -> body
  transaction_lookup                        bytes u32 pointer -> cache
  transaction_lookup_async                  bytes u32 pointer -> cache-busy
  cache_busy_handle_wait                    -cache-busy -> cache
  close_busy                                -cache-busy = cache_close
  transaction_insert                        cache u32 pointer -> body
  transaction_insert_and_stream_back        cache u32 pointer -> body cache
  transaction_update                        cache u32 pointer
  transaction_cancel                        cache
  close                                     -cache
  get_state                                 cache -> u32
  get_user_metadata                         cache -> value
  get_body                                  cache u32 pointer -> body
  get_length                                cache -> u64
  get_max_age_ns                            cache -> u64
  get_stale_while_revalidate_ns             cache -> u64
  get_age_ns                                cache -> u64
  get_hits                                  cache -> u64
fastly_purge
  purge_surrogate_key                       text u32 pointer
fastly_compute_runtime
  get_vcpu_ms                               -> u64
  get_heap_mib                              -> u32
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One function of the interface."""

    module: str
    name: str
    takes: tuple[str, ...]
    """Kinds, a used-up handle's with its "-"."""
    gives: tuple[str, ...]
    function: str
    """Who does it: a function of compute_http, compute_send, compute_stores or compute_more."""
    state: str
    """"yes", or "accepted": without an effect, or with the same answer always."""

    @property
    def params(self) -> tuple[str, ...]:
        """Value types, as a module imports it."""
        return tuple(valtype for kind in (*self.takes, *(f">{kind}" for kind in self.gives)) for valtype in _flat(kind))


def _flat(kind: str) -> tuple[str, ...]:
    match kind:
        case "u64":
            return ("i64",)
        case "bytes" | "text" | "span" | "handles" | ">address":
            return ("i32", "i32")
        case ">value" | ">chunk":
            return ("i32",) * 3
        case ">values":
            return ("i32",) * 5
        case _:
            return ("i32",)


def _table(rows: str) -> dict[tuple[str, str], Call]:
    table = {}
    module = ""
    for row in rows.strip().splitlines():
        if not row.startswith(" "):
            module = row
            continue
        kinds, _, function = row.partition("=")
        taken, _, given = kinds.partition("->")
        marked, *takes = taken.split()
        name = marked.removeprefix("~")
        table[module, name] = Call(
            module=module,
            name=name,
            takes=tuple(takes),
            gives=tuple(given.split()),
            function=function.strip() or f"{module.removeprefix('fastly_')}_{name}",
            state="accepted" if marked.startswith("~") else "yes",
        )
    return table


CALLS: Final = _table(_ROWS)
"""By module and name."""
