--- Messages to the user, each of which names its sender.
local M = {}

---@param message string a sentence
---@param level integer
local function notify(message, level)
  vim.notify('intract: ' .. message, level, { title = 'intract' })
end

---@param message string
function M.info(message)
  notify(message, vim.log.levels.INFO)
end

---@type table<string, true>
local told = {}

--- Warns of something that would be met again and again.
---
---@param message string
function M.warn_once(message)
  if not told[message] then
    -- Before it is shown, which may take until Enter; vim.notify_once would let a second one through meanwhile.
    told[message] = true
    notify(message, vim.log.levels.WARN)
  end
end

---@param message string
function M.error(message)
  notify(message, vim.log.levels.ERROR)
end

return M
