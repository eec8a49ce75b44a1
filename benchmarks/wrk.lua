-- What wrk asks for: get, list, create, or the paths that stand beside the tokens; with tokens in turn or at random.
-- THINK is how many milliseconds a connection waits between two requests, on average: 0 for none.
-- wrk ... -s wrk.lua URL -- KIND TOKENS SEED ORDER ORGANIZATIONS CONTACTS FIRST_ORGANIZATION THINK
local LIST = "/contacts?organization_id=%d&%%24limit=25&%%24sort%%5Bcreated_at%%5D=-1"
local tokens, places, paths, next_token = {}, {}, {}, 0
local kind, order, organizations, contacts, first

function init(args)
  kind, order = args[1], args[4]
  organizations, contacts, first = tonumber(args[5]), tonumber(args[6]), tonumber(args[7])
  for line in io.lines(args[2]) do
    local token, place, path = line:match("(%S+) (%d+) ?(%S*)")
    tokens[#tokens + 1], places[#places + 1], paths[#paths + 1] = token, tonumber(place), path
  end
  local seed = tonumber(args[3])
  math.randomseed(seed)
  next_token = (seed * 7919) % #tokens
  local think = tonumber(args[8])
  if think > 0 then
    -- As from many people who do not know of each other.
    delay = function() return math.floor(0.5 - think * math.log(1 - math.random())) end
  end
end

local function pick()
  if order == "random" then return math.random(#tokens) end
  next_token = next_token % #tokens + 1
  return next_token
end

local function text(method, url, token, body)
  local head = method .. " " .. url .. " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " .. token .. "\r\n"
  if not body then return head .. "\r\n" end
  return head .. "Content-Type: application/json\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
end

local ask = {}

function ask.get(token, place)
  local id = 1 + place + organizations * math.random(0, math.floor(contacts / organizations) - 1)
  return text("GET", "/contacts/" .. id, token)
end

function ask.list(token, place)
  return text("GET", LIST:format(first + place), token)
end

function ask.create(token, place)
  local number = math.random(10000, 99999)
  return text("POST", "/contacts", token, ('{"organization_id":%d,"first_name":"Mária","last_name":"Novák %d",'
    .. '"email":"maria.novak%d@example.com","phone":"20255%d"}'):format(first + place, number, number, number))
end

function ask.path(token, _, path)
  return text("GET", path, token)
end

function request()
  local n = pick()
  return ask[kind](tokens[n], places[n], paths[n])
end

function done(summary, latency)
  local e = summary.errors
  io.write(('RESULT {"requests":%d,"seconds":%f,"p50":%f,"p99":%f,"failed":%d,"lost":%d}\n'):format(
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.status, e.connect + e.read + e.write + e.timeout))
end
