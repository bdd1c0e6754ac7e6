// Functions that V8 compiles, recompiles and gives up again; regular expressions and WebAssembly are compiled, too.
let seed = Number(process.argv[2]);
const draw = () => (seed = (seed * 16807) % 2147483647);
const fib = (n) => (n < 2 ? n : fib(n - 1) + fib(n - 2));
const numbers = Array.from({ length: 50000 }, () => draw() % 100003).sort((a, b) => a - b);
console.log(fib(22), numbers.reduce((s, x) => (s * 31 + x) % 1000007, 0));
const add = (a, b) => a + b; // called with other types later
let sum = 0;
for (let i = 0; i < 200000; i++) sum = add(sum, i % 7);
console.log(sum, add("a", 1), add(0.5, 2), add([1], 2));
const words = "the quick brown fox ".repeat(2000);
console.log(words.match(/(\w+) (?=brown)/g).length, words.replace(/[aeiou]/g, (v) => v.toUpperCase()).length);
const wasm = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 6, 1, 96, 1, 127, 1, 127, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0, 10, 9, 1, 7, 0, 32, 0, 65, 3, 108, 11]);
WebAssembly.instantiate(wasm).then(({ instance }) => {
  for (let i = 0, s = 0; i < 100000; i++) s += instance.exports.f(i);
  console.log(instance.exports.f(14));
}).catch((e) => console.log("no wasm:", e.message));
