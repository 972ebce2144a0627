// filter_hours.go: closed at night. The filter's configuration is an hour to open and an hour to close, UTC: "8 20".
//
// GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o filter_hours.wasm filter_hours.go
package main

import (
	"fmt"
	"time"
	"unsafe"
)

//go:wasmimport http_handler get_config
func getConfig(buffer unsafe.Pointer, limit uint32) uint32

//go:wasmimport http_handler set_status_code
func setStatusCode(status uint32)

//go:wasmimport http_handler write_body
func writeBody(kind uint32, body unsafe.Pointer, size uint32)

const response = 1

func isOpen() bool {
	var config [64]byte
	size := getConfig(unsafe.Pointer(&config), uint32(len(config)))
	var opens, closes int
	if _, err := fmt.Sscan(string(config[:min(size, uint32(len(config)))]), &opens, &closes); err != nil {
		panic(err)
	}
	hour := time.Now().UTC().Hour()
	return hour >= opens && hour < closes
}

//go:wasmexport handle_request
func handleRequest() uint64 {
	if isOpen() {
		return 1
	}
	body := []byte("closed\n")
	setStatusCode(503)
	writeBody(response, unsafe.Pointer(&body[0]), uint32(len(body)))
	return 0
}

//go:wasmexport handle_response
func handleResponse(context, isError uint32) {}

func main() {}
