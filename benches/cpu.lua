-- A CPU-bound Lua job: tables, closures, string building, floating point.
local function sieve(n)
  local composite, found = {}, 0
  for i = 2, n do
    if not composite[i] then
      found = found + 1
      for j = i * i, n, i do composite[j] = true end
    end
  end
  return found
end

local function words(n)
  local counts, seed = {}, 42
  for _ = 1, n do
    seed = (seed * 1103515245 + 12345) % 2147483648
    local key = string.format("w%d", seed % 5000)
    counts[key] = (counts[key] or 0) + 1
  end
  local keys = {}
  for key in pairs(counts) do keys[#keys + 1] = key end
  table.sort(keys)
  return #keys, counts[keys[1]]
end

local sum = 0.0
for i = 1, 60000000 do sum = sum + 1.0 / (i * i) end
print(sieve(9000000), sum > 1.6, words(4500000))
