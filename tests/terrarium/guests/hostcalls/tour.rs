//! A request for each part of the interface: as tour.c.
mod lucet_http;
use lucet_http::{debug, response, select, store, Request};

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

fn echo(path: &str) {
    let request = Request::incoming();
    let name = request.header("X-Name").into_iter().next().map(text).unwrap_or("nobody".to_string());
    let (method, body, names) = (text(request.method()), text(request.body()), request.header_names().len());
    response::set_header("X-Kind", &["echo"]);
    response::set_code(201);
    response::set_body(format!("{method} {path} {body} {name} {names}").as_bytes());
}

fn count() {
    let number: i64 = store::get(b"count").map(|value| text(value).parse().unwrap()).unwrap_or(0) + 1;
    let was_absent = store::insert(b"count", number.to_string().as_bytes());
    response::set_body(format!("{number} {}", if was_absent { "first" } else { "again" }).as_bytes());
}

fn fetch() {
    let send = |path| Request::new("GET", &format!("http://there.test{path}")).unwrap().send_async().unwrap();
    let mut pending = vec![send("/one"), send("/two")];
    let (mut codes, mut length) = (0, 0);
    while let Some((_, Some(response))) = select(&mut pending) {
        codes += response.code();
        length += response.body().len();
    }
    let refused = Request::new("GET", "http://refused.test/").unwrap().send();
    response::set_body(format!("{codes} {length} {}", if refused.is_none() { -1 } else { 0 }).as_bytes());
}

#[no_mangle]
pub extern "C" fn run() {
    lucet_http::init();
    let path = text(Request::incoming().path());
    match path.as_str() {
        "/count" => count(),
        "/fetch" => fetch(),
        "/fail" => {
            debug("this is wrong");
            response::set_code(500);
            response::set_body(b"this is wrong");
        }
        "/trap" => panic!("a panic"),
        _ => echo(&path),
    }
}
