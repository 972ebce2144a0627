;; The guest of embed.c: adds up a basket of goods, whose prices the host knows.
(module
  (import "shop" "price" (func $price (param $article i32) (result i32)))
  (memory (export "memory") 1) ;; the basket: one byte for each article, from address 0

  (func $total (export "total") (param $count i32) (result i32)
    (local $sum i32)
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $count)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (local.set $sum (i32.add (local.get $sum) (call $price (i32.load8_u (local.get $count)))))
        (br $next)))
    (local.get $sum))

  (func $average (export "average") (param $count i32) (result i32)
    (i32.div_u (call $total (local.get $count)) (local.get $count)))

  (func $never_ends (export "never_ends")
    (loop $again (br $again))))
