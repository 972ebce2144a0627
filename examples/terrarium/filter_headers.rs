// filter_headers.rs: adds headers to all responses, and counts those that failed in the log. The filter's configuration
// has one "Name: value" in each line.
//
// rustc --target wasm32-wasi --crate-type cdylib -O -C strip=symbols filter_headers.rs -o filter_headers.wasm

mod host {
    #[link(wasm_import_module = "http_handler")]
    extern "C" {
        pub fn get_config(buffer: *mut u8, limit: u32) -> u32;
        pub fn log(level: i32, message: *const u8, size: u32);
        pub fn set_header_value(kind: u32, name: *const u8, name_size: u32, value: *const u8, value_size: u32);
        pub fn get_status_code() -> u32;
    }
}

const RESPONSE: u32 = 1;
const WARNING: i32 = 1;

fn config() -> String {
    let size = unsafe { host::get_config(std::ptr::null_mut(), 0) };
    let mut buffer = vec![0; size as usize];
    unsafe { host::get_config(buffer.as_mut_ptr(), size) };
    String::from_utf8_lossy(&buffer).into_owned()
}

fn set_header(name: &str, value: &str) {
    unsafe {
        host::set_header_value(RESPONSE, name.as_ptr(), name.len() as u32, value.as_ptr(), value.len() as u32);
    }
}

#[no_mangle]
pub extern "C" fn handle_request() -> u64 {
    1
}

#[no_mangle]
pub extern "C" fn handle_response(_context: u32, _is_error: u32) {
    for line in config().lines() {
        if let Some((name, value)) = line.split_once(':') {
            set_header(name.trim(), value.trim());
        }
    }
    let status = unsafe { host::get_status_code() };
    if status >= 500 {
        let message = format!("the application answered with {status}");
        unsafe { host::log(WARNING, message.as_ptr(), message.len() as u32) };
    }
}
