--- What the servers last said of themselves, and a line of it for the status line.
local servers = require('intract.servers')

local M = {}

---@type table<integer, table> The last `intract/status` of each client.
local last = {}

---@alias intract.State
---| 'detached' | 'starting' | 'loading' | 'no model' | 'error'
---| 'paused' | 'off' | 'thinking' | 'training' | 'indexing' | 'ready'

---@class intract.Presentation
---@field state intract.State
---@field text string short, for a status line
---@field sentence string

local RUNNING = { queued = true, running = true, evaluating = true, paused = true }

---@param fraction? number
---@return string
local function percent(fraction)
  return fraction and (' %d%%'):format(math.floor(fraction * 100 + 0.5)) or ''
end

---@param state intract.State
---@param text string
---@param sentence string
---@return intract.Presentation
local function presentation(state, text, sentence)
  return { state = state, text = text == '' and 'intract' or 'intract: ' .. text, sentence = sentence }
end

---@param engine table
---@return intract.Presentation?
local function of_engine(engine)
  local message = engine.message or ''
  if engine.state == 'failed' then
    return presentation('error', 'error', message ~= '' and message or 'The model could not be loaded.')
  end
  if engine.state == 'loading' then
    local sentence = message ~= '' and message or ('Loading %s.'):format(engine.model)
    return presentation('loading', 'loading' .. percent(engine.fraction), sentence)
  end
  if engine.state == 'resting' then
    local sentence = message ~= '' and message or 'Completions pause until the fine-tuning run is over.'
    return presentation('training', 'training, no suggestions', sentence)
  end
  if engine.state == 'absent' then
    local sentence = message ~= '' and message or 'No model is loaded; choose one with `:Intract model`.'
    return presentation('no model', 'no model', sentence)
  end
end

---@param status table
---@return intract.Presentation?
local function of_work(status)
  local training, index = status.training, status.index
  if training and RUNNING[training.state] then
    return presentation('training', 'training' .. percent(training.fraction), training.message)
  end
  if index and (index.state == 'indexing' or index.state == 'scanning') then
    return presentation('indexing', 'indexing', ('%d files are still to be read.'):format(index.queue))
  end
end

--- Returns what to show of a status; what needs the user's attention comes before what is merely going on.
---
---@param status? table as the server sends it; nothing while it starts
---@param language string filetype of the buffer
---@return intract.Presentation
function M.present(status, language)
  if not status then
    return presentation('starting', 'starting', 'The server is starting.')
  end
  local attention = of_engine(status.engine)
  if attention then
    return attention
  end
  if not status.enabled then
    return presentation('paused', 'paused', 'Suggestions are switched off; `:Intract toggle` switches them on.')
  end
  if vim.tbl_contains(status.disabledLanguages or {}, language) then
    return presentation('off', 'off for ' .. language, ('Suggestions are off for %s by the settings.'):format(language))
  end
  local work = of_work(status)
  if status.busy then
    return presentation('thinking', work and work.text:gsub('^intract: ', '') .. ' …' or '…', 'The model is at work.')
  end
  local adapter = vim.tbl_get(status, 'model', 'adapter') or ''
  local model = status.engine.model .. (adapter ~= '' and ' with ' .. adapter or '')
  return work or presentation('ready', '', model .. ' is ready.')
end

--- Returns what to show of a buffer's server.
---
---@param bufnr? integer
---@return intract.Presentation
function M.of_buffer(bufnr)
  bufnr = bufnr or vim.api.nvim_get_current_buf()
  local client = servers.clients(bufnr)[1]
  if not client then
    return { state = 'detached', text = '', sentence = 'The server is not attached to this buffer.' }
  end
  return M.present(last[client.id], vim.bo[bufnr].filetype)
end

---@param pattern string
---@param client_id integer
local function tell(pattern, client_id)
  vim.api.nvim_exec_autocmds('User', { pattern = pattern, modeline = false, data = { client_id = client_id } })
end

--- Takes a status from a server, and has the status line drawn anew.
---
---@param status table
---@param client_id integer
function M.receive(status, client_id)
  local before = vim.tbl_get(last, client_id, 'engine', 'state')
  last[client_id] = status
  tell('IntractStatus', client_id)
  if before == 'loading' and vim.list_contains({ 'ready', 'busy' }, status.engine.state) then
    tell('IntractReady', client_id)
  end
  vim.cmd.redrawstatus()
end

---@param client_id integer
function M.forget(client_id)
  last[client_id] = nil
end

return M
