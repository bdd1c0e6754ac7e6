-- Arithmetic, strings, tables and calls into C, in loops that LuaJIT compiles; callbacks that C calls.
local seed = tonumber(arg[1]) or 1
local function draw() seed = (seed * 16807) % 2147483647 return seed end
local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end
local t = {}
for i = 1, 100000 do t[i] = draw() % 100003 end
table.sort(t)
local sum = 0
for i = 1, #t do sum = (sum * 31 + t[i]) % 1000000007 end
local parts = {}
for i = 1, 20000 do parts[#parts + 1] = string.format("%d:%s", draw() % 97, ("x"):rep(i % 7)) end
print(fib(24), sum, #table.concat(parts))
local ffi = require("ffi")
ffi.cdef [[
double cos(double);
void qsort(void *, size_t, size_t, int (*)(const int *, const int *));
]]
local a = ffi.new("double[?]", 1000)
for k = 1, 100 do for i = 0, 999 do a[i] = a[i] + ffi.C.cos(i * k) end end
print(string.format("%.6f %.6f", a[7], a[999]))
local n = 500
local numbers = ffi.new("int[?]", n)
for i = 0, n - 1 do numbers[i] = draw() % 100000 end
local compare = ffi.cast("int (*)(const int *, const int *)", function(x, y) return x[0] - y[0] end)
ffi.C.qsort(numbers, n, 4, compare)
compare:free()
for i = 1, n - 1 do assert(numbers[i - 1] <= numbers[i]) end
print(numbers[0], numbers[n - 1], pcall(error, "caught"))
for round = 1, 60 do -- each makes new traces
  local f = loadstring("local s = 0 for i = 1, 300 do s = (s + i * " .. round .. ") % 65537 end return s")
  io.write(f(), " ")
end
print()
