-- wrk's requests: a click with a fresh key each time.
local thread = 0
function setup(one)
  thread = thread + 1
  one:set("number", thread)
end

local sent = 0
function request()
  sent = sent + 1
  local key = string.format("%s-%04x-4000-8000-%012x", os.getenv("SEED"), number, sent)
  return wrk.format("POST", "/click", { ["Idempotency-Key"] = key })
end
