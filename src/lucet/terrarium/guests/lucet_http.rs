//! The functions that a Terrarium gives its guests, for programs in Rust. docs/terrarium-hostcalls.md explains them.
//!
//!     mod lucet_http;
//!     use lucet_http::{response, Request};
//!
//!     #[no_mangle]
//!     pub extern "C" fn run() {
//!         lucet_http::init();
//!         let path = Request::incoming().path();
//!         response::set_header("content-type", &["text/plain"]);
//!         response::set_body(&path);
//!     }
#![allow(dead_code)]

use std::alloc::{alloc, Layout};

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slice {
    ptr: *const u8,
    len: usize,
}

mod raw {
    use super::Slice;
    #[link(wasm_import_module = "env")]
    extern "C" {
        pub fn hostcall_init_mm(malloc: extern "C" fn(usize) -> *mut u8, free: extern "C" fn(*mut u8));
        pub fn hostcall_debug(msg: *const u8, len: usize);
        pub fn hostcall_panic_hook(msg: *const u8, len: usize);
        pub fn hostcall_req_get_method(p: *mut *mut u8, n: *mut usize, req: i32);
        pub fn hostcall_req_get_path(p: *mut *mut u8, n: *mut usize, req: i32);
        pub fn hostcall_req_get_body(p: *mut *mut u8, n: *mut usize, req: i32);
        pub fn hostcall_req_get_headers(p: *mut *mut Slice, n: *mut usize, req: i32);
        pub fn hostcall_req_get_header(p: *mut *mut Slice, n: *mut usize, req: i32, name: *const u8, len: usize);
        pub fn hostcall_req_create(method: *const u8, n: usize, url: *const u8, m: usize) -> i32;
        pub fn hostcall_req_set_header(req: i32, name: *const u8, n: usize, values: *const Slice, m: usize) -> i32;
        pub fn hostcall_req_set_body(req: i32, body: *const u8, n: usize) -> i32;
        pub fn hostcall_req_send(req: i32) -> i32;
        pub fn hostcall_req_send_async(req: i32) -> i32;
        pub fn hostcall_pending_req_wait(pending: i32) -> i32;
        pub fn hostcall_pending_req_poll(pending: i32) -> i32;
        pub fn hostcall_pending_req_select(pending: *const i32, n: usize, which: *mut i32) -> i32;
        pub fn hostcall_resp_get_response_code(resp: i32) -> u32;
        pub fn hostcall_resp_get_body(p: *mut *mut u8, n: *mut usize, resp: i32);
        pub fn hostcall_resp_get_headers(p: *mut *mut Slice, n: *mut usize, resp: i32);
        pub fn hostcall_resp_get_header(p: *mut *mut Slice, n: *mut usize, resp: i32, name: *const u8, len: usize);
        pub fn hostcall_resp_set_response_code(resp: i32, code: u16) -> i32;
        pub fn hostcall_resp_set_header(resp: i32, name: *const u8, n: usize, values: *const Slice, m: usize) -> i32;
        pub fn hostcall_resp_set_body(resp: i32, body: *const u8, n: usize) -> i32;
        pub fn hostcall_kvstore_insert(key: *const u8, n: usize, value: *const u8, m: usize) -> i32;
        pub fn hostcall_kvstore_upsert(key: *const u8, n: usize, value: *const u8, m: usize) -> i32;
        pub fn hostcall_kvstore_append(key: *const u8, n: usize, value: *const u8, m: usize) -> i32;
        pub fn hostcall_kvstore_get(p: *mut *mut u8, n: *mut usize, key: *const u8, m: usize) -> i32;
        pub fn hostcall_kvstore_remove(key: *const u8, n: usize) -> i32;
        pub fn hostcall_rng_next_u64() -> u64;
        pub fn hostcall_time_now(nanoseconds: *mut u32) -> u64;
        pub fn hostcall_dns_query_raw(p: *mut *mut u8, n: *mut usize, query: *const u8, m: usize) -> i32;
        pub fn hostcall_dns_query_ip(p: *mut *mut Slice, n: *mut usize, name: *const u8, m: usize, v6: i32) -> i32;
    }
}

// What the host is given by malloc is taken over by taken(): it is one byte larger than what is in it.
extern "C" fn malloc(size: usize) -> *mut u8 {
    match Layout::array::<u8>(size) {
        Ok(layout) if size > 0 => unsafe { alloc(layout) },
        _ => std::ptr::null_mut(),
    }
}

extern "C" fn free(_: *mut u8) {}

/// To be called first: what the host gives is allocated here. Panics go to the request's log from then on.
pub fn init() {
    unsafe { raw::hostcall_init_mm(malloc, free) };
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        unsafe { raw::hostcall_panic_hook(text.as_ptr(), text.len()) };
    }));
}

/// A line for the request's log.
pub fn debug(text: &str) {
    unsafe { raw::hostcall_debug(text.as_ptr(), text.len()) };
}

fn taken(get: impl FnOnce(*mut *mut u8, *mut usize)) -> Option<Vec<u8>> {
    let (mut p, mut n) = (std::ptr::null_mut(), 0);
    get(&mut p, &mut n);
    // Of n bytes and the NUL behind them.
    (!p.is_null()).then(|| unsafe { Vec::from_raw_parts(p, n, n + 1) })
}

fn taken_all(get: impl FnOnce(*mut *mut Slice, *mut usize)) -> Vec<Vec<u8>> {
    let (mut p, mut n) = (std::ptr::null_mut::<Slice>(), 0);
    get(&mut p, &mut n);
    if p.is_null() {
        return Vec::new();
    }
    let bytes = unsafe { Vec::from_raw_parts(p as *mut u8, 8 * n, 8 * n) };
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize;
    (0..n)
        .map(|i| unsafe { Vec::from_raw_parts(word(8 * i) as *mut u8, word(8 * i + 4), word(8 * i + 4) + 1) })
        .collect()
}

fn with_slices<R>(values: &[&str], then: impl FnOnce(*const Slice, usize) -> R) -> R {
    let slices: Vec<Slice> = values.iter().map(|v| Slice { ptr: v.as_ptr(), len: v.len() }).collect();
    then(slices.as_ptr(), slices.len())
}

/// What the client asks (`Request::incoming()`), or a request to others (`Request::new`).
pub struct Request(i32);

impl Request {
    pub fn incoming() -> Request {
        Request(0)
    }

    pub fn method(&self) -> Vec<u8> {
        taken(|p, n| unsafe { raw::hostcall_req_get_method(p, n, self.0) }).unwrap_or_default()
    }

    /// With the query.
    pub fn path(&self) -> Vec<u8> {
        taken(|p, n| unsafe { raw::hostcall_req_get_path(p, n, self.0) }).unwrap_or_default()
    }

    pub fn body(&self) -> Vec<u8> {
        taken(|p, n| unsafe { raw::hostcall_req_get_body(p, n, self.0) }).unwrap_or_default()
    }

    pub fn header_names(&self) -> Vec<Vec<u8>> {
        taken_all(|p, n| unsafe { raw::hostcall_req_get_headers(p, n, self.0) })
    }

    pub fn header(&self, name: &str) -> Vec<Vec<u8>> {
        taken_all(|p, n| unsafe { raw::hostcall_req_get_header(p, n, self.0, name.as_ptr(), name.len()) })
    }

    /// None: the method or the URL, which is absolute, is none.
    pub fn new(method: &str, url: &str) -> Option<Request> {
        let handle = unsafe { raw::hostcall_req_create(method.as_ptr(), method.len(), url.as_ptr(), url.len()) };
        (handle >= 0).then_some(Request(handle))
    }

    pub fn set_header(&mut self, name: &str, values: &[&str]) -> bool {
        with_slices(values, |p, n| unsafe {
            raw::hostcall_req_set_header(self.0, name.as_ptr(), name.len(), p, n) == 0
        })
    }

    pub fn set_body(&mut self, body: &[u8]) -> bool {
        unsafe { raw::hostcall_req_set_body(self.0, body.as_ptr(), body.len()) == 0 }
    }

    /// Waits for the response. None: there is none; the request's log tells why.
    pub fn send(self) -> Option<Response> {
        response_of(unsafe { raw::hostcall_req_send(self.0) })
    }

    pub fn send_async(self) -> Option<Pending> {
        let handle = unsafe { raw::hostcall_req_send_async(self.0) };
        (handle >= 0).then_some(Pending(handle))
    }
}

/// A request that was sent.
pub struct Pending(i32);

impl Pending {
    pub fn wait(self) -> Option<Response> {
        response_of(unsafe { raw::hostcall_pending_req_wait(self.0) })
    }

    /// Err: there is no response yet.
    pub fn poll(self) -> Result<Option<Response>, Pending> {
        match unsafe { raw::hostcall_pending_req_poll(self.0) } {
            -2 => Err(self),
            handle => Ok(response_of(handle)),
        }
    }
}

/// Waits for one of several, and takes it out: its place, and its response if there is one.
pub fn select(pending: &mut Vec<Pending>) -> Option<(usize, Option<Response>)> {
    let handles: Vec<i32> = pending.iter().map(|p| p.0).collect();
    let mut which = -1;
    let response = unsafe { raw::hostcall_pending_req_select(handles.as_ptr(), handles.len(), &mut which) };
    let at = handles.iter().position(|&handle| handle == which)?;
    pending.remove(at);
    Some((at, response_of(response)))
}

/// What came back.
pub struct Response(i32);

fn response_of(handle: i32) -> Option<Response> {
    (handle >= 0).then_some(Response(handle))
}

impl Response {
    pub fn code(&self) -> u32 {
        unsafe { raw::hostcall_resp_get_response_code(self.0) }
    }

    pub fn body(&self) -> Vec<u8> {
        taken(|p, n| unsafe { raw::hostcall_resp_get_body(p, n, self.0) }).unwrap_or_default()
    }

    pub fn header_names(&self) -> Vec<Vec<u8>> {
        taken_all(|p, n| unsafe { raw::hostcall_resp_get_headers(p, n, self.0) })
    }

    pub fn header(&self, name: &str) -> Vec<Vec<u8>> {
        taken_all(|p, n| unsafe { raw::hostcall_resp_get_header(p, n, self.0, name.as_ptr(), name.len()) })
    }
}

/// The response to the client, which is sent when `run` has returned. False: a value is none.
pub mod response {
    use super::{raw, with_slices};

    pub fn set_code(code: u16) -> bool {
        unsafe { raw::hostcall_resp_set_response_code(0, code) == 0 }
    }

    pub fn set_header(name: &str, values: &[&str]) -> bool {
        with_slices(values, |p, n| unsafe {
            raw::hostcall_resp_set_header(0, name.as_ptr(), name.len(), p, n) == 0
        })
    }

    pub fn set_body(body: &[u8]) -> bool {
        unsafe { raw::hostcall_resp_set_body(0, body.as_ptr(), body.len()) == 0 }
    }
}

/// The tenant's key-value store. Writers tell whether there was nothing under the key.
pub mod store {
    use super::{raw, taken};

    pub fn get(key: &[u8]) -> Option<Vec<u8>> {
        taken(|p, n| unsafe {
            raw::hostcall_kvstore_get(p, n, key.as_ptr(), key.len());
        })
    }

    pub fn insert(key: &[u8], value: &[u8]) -> bool {
        unsafe { raw::hostcall_kvstore_insert(key.as_ptr(), key.len(), value.as_ptr(), value.len()) != 0 }
    }

    /// Only if there is nothing under the key: the name is the original's.
    pub fn upsert(key: &[u8], value: &[u8]) -> bool {
        unsafe { raw::hostcall_kvstore_upsert(key.as_ptr(), key.len(), value.as_ptr(), value.len()) != 0 }
    }

    pub fn append(key: &[u8], value: &[u8]) -> bool {
        unsafe { raw::hostcall_kvstore_append(key.as_ptr(), key.len(), value.as_ptr(), value.len()) != 0 }
    }

    pub fn remove(key: &[u8]) -> bool {
        unsafe { raw::hostcall_kvstore_remove(key.as_ptr(), key.len()) != 0 }
    }
}

pub fn random() -> u64 {
    unsafe { raw::hostcall_rng_next_u64() }
}

/// Seconds since 1970, and nanoseconds.
pub fn now() -> (u64, u32) {
    let mut nanoseconds = 0;
    let seconds = unsafe { raw::hostcall_time_now(&mut nanoseconds) };
    (seconds, nanoseconds)
}

/// The answer to a DNS message.
pub fn dns_query(message: &[u8]) -> Option<Vec<u8>> {
    taken(|p, n| unsafe {
        raw::hostcall_dns_query_raw(p, n, message.as_ptr(), message.len());
    })
}

/// Addresses of 4 or 16 bytes.
pub fn dns_addresses(name: &str, v6: bool) -> Vec<Vec<u8>> {
    taken_all(|p, n| unsafe {
        raw::hostcall_dns_query_ip(p, n, name.as_ptr(), name.len(), v6 as i32);
    })
}
