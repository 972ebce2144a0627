;; Answers every request with a greeting, through the interface of the first Terrarium (docs of hostcalls).
(module
  (import "env" "hostcall_init_mm" (func $init_mm (param i32 i32)))
  (import "env" "hostcall_resp_set_body" (func $body (param i32 i32 i32) (result i32)))
  (memory 1)
  (table 2 funcref)
  (elem (i32.const 0) $malloc $free)
  (data (i32.const 16) "hello from a fresh instance\n")
  (func $malloc (param i32) (result i32) (i32.const 1024))
  (func $free (param i32))
  (func (export "run")
    (call $init_mm (i32.const 0) (i32.const 1))
    (drop (call $body (i32.const 0) (i32.const 16) (i32.const 28)))))
