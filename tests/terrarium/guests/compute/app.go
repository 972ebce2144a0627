// app.go: an application for Fastly Compute's interface in Go, with a binding of its own.

package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
	"unsafe"
)

const (
	ok     = 0
	buflen = 4
)

//go:wasmimport fastly_abi init
func abiInit(version uint64) uint32

//go:wasmimport fastly_http_req body_downstream_get
func bodyDownstreamGet(request, body *uint32) uint32

//go:wasmimport fastly_http_req new
func requestNew(request *uint32) uint32

//go:wasmimport fastly_http_req method_get
func methodGet(request uint32, buffer unsafe.Pointer, size uint32, written *uint32) uint32

//go:wasmimport fastly_http_req uri_get
func uriGet(request uint32, buffer unsafe.Pointer, size uint32, written *uint32) uint32

//go:wasmimport fastly_http_req uri_set
func uriSet(request uint32, uri unsafe.Pointer, size uint32) uint32

//go:wasmimport fastly_http_req header_names_get
func headerNamesGet(request uint32, buffer unsafe.Pointer, size, cursor uint32, next *int64, written *uint32) uint32

//go:wasmimport fastly_http_req header_value_get
func headerValueGet(request uint32, name unsafe.Pointer, nameSize uint32, buffer unsafe.Pointer, size uint32, written *uint32) uint32

//go:wasmimport fastly_http_req send
func requestSend(request, body uint32, backend unsafe.Pointer, size uint32, response, answer *uint32) uint32

//go:wasmimport fastly_http_resp new
func responseNew(response *uint32) uint32

//go:wasmimport fastly_http_resp status_set
func statusSet(response, status uint32) uint32

//go:wasmimport fastly_http_resp header_insert
func headerInsert(response uint32, name unsafe.Pointer, nameSize uint32, value unsafe.Pointer, size uint32) uint32

//go:wasmimport fastly_http_resp send_downstream
func sendDownstream(response, body, streaming uint32) uint32

//go:wasmimport fastly_http_body new
func bodyNew(body *uint32) uint32

//go:wasmimport fastly_http_body read
func bodyRead(body uint32, buffer unsafe.Pointer, size uint32, read *uint32) uint32

//go:wasmimport fastly_http_body write
func bodyWrite(body uint32, data unsafe.Pointer, size, end uint32, written *uint32) uint32

//go:wasmimport fastly_http_body close
func bodyClose(body uint32) uint32

//go:wasmimport fastly_dictionary open
func dictionaryOpen(name unsafe.Pointer, size uint32, store *uint32) uint32

//go:wasmimport fastly_dictionary get
func dictionaryGet(store uint32, key unsafe.Pointer, keySize uint32, buffer unsafe.Pointer, size uint32, written *uint32) uint32

func data(text string) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.StringData(text)), uint32(len(text))
}

func check(what string, status uint32) {
	if status != ok {
		fmt.Fprintf(os.Stderr, "%s: status %d\n", what, status)
		os.Exit(70)
	}
}

// get calls a getter again with a longer buffer while it asks for one.
func get(what string, getter func(buffer unsafe.Pointer, size uint32, written *uint32) uint32) string {
	buffer := make([]byte, 4)
	for {
		var written uint32
		status := getter(unsafe.Pointer(&buffer[0]), uint32(len(buffer)), &written)
		if status == buflen {
			buffer = make([]byte, written)
			continue
		}
		check(what, status)
		return string(buffer[:written])
	}
}

// stream is a body, to read or to write.
type stream uint32

func (body stream) Read(buffer []byte) (int, error) {
	var read uint32
	if len(buffer) == 0 {
		return 0, nil
	}
	if status := bodyRead(uint32(body), unsafe.Pointer(&buffer[0]), uint32(len(buffer)), &read); status != ok {
		return 0, errors.New("read failed")
	}
	if read == 0 {
		return 0, io.EOF
	}
	return int(read), nil
}

func (body stream) Write(data []byte) (int, error) {
	var written uint32
	if len(data) == 0 {
		return 0, nil
	}
	check("write", bodyWrite(uint32(body), unsafe.Pointer(&data[0]), uint32(len(data)), 0, &written))
	return int(written), nil
}

func newBody() stream {
	var body uint32
	check("body", bodyNew(&body))
	return stream(body)
}

func header(request uint32, name string) string {
	pointer, size := data(name)
	return get(name, func(buffer unsafe.Pointer, room uint32, written *uint32) uint32 {
		return headerValueGet(request, pointer, size, buffer, room, written)
	})
}

func head(request uint32, out io.Writer, method string, target *url.URL) {
	fmt.Fprintln(out, method, target)
	var next int64
	for next >= 0 {
		buffer := make([]byte, 32)
		var written uint32
		check("names", headerNamesGet(request, unsafe.Pointer(&buffer[0]), uint32(len(buffer)), uint32(next), &next, &written))
		for _, name := range strings.Split(strings.TrimRight(string(buffer[:written]), "\x00"), "\x00") {
			fmt.Fprintf(out, "%s: %s\n", name, header(request, name))
		}
	}
}

func fetch(out io.Writer) {
	var request, response, answer uint32
	check("request", requestNew(&request))
	uri, size := data("http://origin.test/asked")
	check("uri", uriSet(request, uri, size))
	body := newBody()
	io.WriteString(body, "asking")
	backend, backendSize := data("origin")
	check("send", requestSend(request, uint32(body), backend, backendSize, &response, &answer))
	io.Copy(out, stream(answer))
}

func configured(out io.Writer) {
	var store uint32
	name, size := data("settings")
	check("open", dictionaryOpen(name, size, &store))
	key, keySize := data("greeting")
	fmt.Fprintln(out, get("greeting", func(buffer unsafe.Pointer, room uint32, written *uint32) uint32 {
		return dictionaryGet(store, key, keySize, buffer, room, written)
	}))
}

func main() {
	var request, incoming, response uint32
	check("init", abiInit(1))
	check("request", bodyDownstreamGet(&request, &incoming))
	method := get("method", func(buffer unsafe.Pointer, size uint32, written *uint32) uint32 {
		return methodGet(request, buffer, size, written)
	})
	target, err := url.Parse(get("uri", func(buffer unsafe.Pointer, size uint32, written *uint32) uint32 {
		return uriGet(request, buffer, size, written)
	}))
	if err != nil {
		panic(err)
	}
	check("response", responseNew(&response))
	body := newBody()
	name, nameSize := data("X-Made-By")
	value, valueSize := data("Go")
	check("header", headerInsert(response, name, nameSize, value, valueSize))
	send := func(streaming uint32) { check("send", sendDownstream(response, uint32(body), streaming)) }

	switch target.Path {
	case "/":
		fmt.Fprintln(body, "Hello from Go!")
	case "/head":
		head(request, body, method, target)
	case "/echo":
		send(1)
		io.Copy(body, stream(incoming))
	case "/digest":
		hash := sha256.New()
		io.Copy(hash, stream(incoming))
		fmt.Fprintf(body, "%x\n", hash.Sum(nil))
	case "/fetch":
		fetch(body)
	case "/config":
		configured(body)
	case "/goroutines":
		var lines [10]string
		var all sync.WaitGroup
		for i := range lines {
			all.Add(1)
			go func() {
				defer all.Done()
				time.Sleep(time.Duration(10-i) * 2 * time.Millisecond)
				lines[i] = fmt.Sprintf("goroutine %d\n", i)
			}()
		}
		all.Wait()
		io.WriteString(body, strings.Join(lines[:], ""))
	case "/log":
		fmt.Println("printed")
		fmt.Fprintln(os.Stderr, "version", os.Getenv("FASTLY_SERVICE_VERSION"))
	case "/panic":
		panic("on purpose")
	default:
		check("status", statusSet(response, 404))
		fmt.Fprintln(body, "no route")
	}
	if target.Path == "/echo" {
		check("close", bodyClose(uint32(body)))
	} else {
		send(0)
	}
}
