--- Asks for suggestions where Neovim does not: in insert mode before 0.12, when the server has become ready to answer,
--- and when the user asks for one.
local ghost = require('intract.ghost')
local servers = require('intract.servers')
local suggestions = require('intract.suggestion')

local M = {}

local METHOD = 'textDocument/inlineCompletion'
local INVOKED, AUTOMATIC = 1, 2

--- Milliseconds without a key before the server is asked. Keys that come in a burst ask once; how long to wait for a
--- human's next key is the server's to decide, which knows how fast this one types.
local PAUSE = 25

---@class intract.Pending
---@field client vim.lsp.Client
---@field id? integer

---@type intract.Pending? The newest request, while it has no answer.
local pending
---@type uv.uv_timer_t?
local timer

local function stop_timer()
  if timer and not timer:is_closing() then
    timer:stop()
    timer:close()
  end
  timer = nil
end

---@param request intract.Pending?
local function cancel(request)
  if request and request.id then
    servers.cancel(request.client, request.id)
  end
end

local function is_inserting()
  return vim.api.nvim_get_mode().mode:sub(1, 1) == 'i'
end

--- Returns what an answer must find as it was when it was asked for.
---
---@return string
local function place()
  local line, col = unpack(vim.api.nvim_win_get_cursor(0))
  local bufnr = vim.api.nvim_get_current_buf()
  return table.concat({ bufnr, vim.api.nvim_buf_get_changedtick(bufnr), line, col }, ' ')
end

---@param result lsp.InlineCompletionItem[]|lsp.InlineCompletionList
---@param client vim.lsp.Client
local function show(result, client)
  local bufnr = vim.api.nvim_get_current_buf()
  local list = {} ---@type intract.Suggestion[]
  for _, item in ipairs(result.items or result) do
    list[#list + 1] = suggestions.from_item(item, bufnr, client)
  end
  if #list == 0 then
    ghost.hide()
  else
    ghost.show(list)
  end
end

---@param kind integer
local function ask(kind)
  local bufnr = vim.api.nvim_get_current_buf()
  local client = servers.clients(bufnr)[1]
  if not client or not is_inserting() or vim.fn.reg_executing() ~= '' then
    return
  end
  local params = vim.lsp.util.make_position_params(0, client.offset_encoding) --[[@as lsp.InlineCompletionParams]]
  params.context = { triggerKind = kind }
  local asked_at, older = place(), pending
  local request = { client = client } ---@type intract.Pending
  pending = request
  request.id = servers.request(client, METHOD, params, function(_, result)
    if pending ~= request then
      return
    end
    pending = nil
    -- No result, or an error, means that the server has stopped working on it; what is shown may stay.
    if result and is_inserting() and place() == asked_at then
      show(result, client)
    end
  end, bufnr)
  -- After the new one, so that the server can go on with what it was generating where the new text still fits.
  cancel(older)
end

--- Ends what is under way and shows nothing.
function M.abort()
  stop_timer()
  cancel(pending)
  pending = nil
  ghost.hide()
end

local function on_change()
  stop_timer()
  if ghost.follow() then
    -- Typed as suggested: there is nothing to ask.
    cancel(pending)
    pending = nil
    return
  end
  timer = vim.defer_fn(function()
    ask(AUTOMATIC)
  end, PAUSE)
end

--- Asks in a buffer while it is typed in.
---
---@param bufnr integer
function M.attach(bufnr)
  local group = vim.api.nvim_create_augroup('intract.suggest.' .. bufnr, { clear = true })
  vim.api.nvim_create_autocmd({ 'InsertEnter', 'CursorMovedI', 'TextChangedI', 'TextChangedP' }, {
    group = group,
    buffer = bufnr,
    desc = 'Ask intract-lsp for a suggestion',
    callback = on_change,
  })
  vim.api.nvim_create_autocmd({ 'InsertLeave', 'BufLeave' }, {
    group = group,
    buffer = bufnr,
    desc = 'Take the suggestion of intract-lsp away',
    callback = M.abort,
  })
end

--- Asks in insert mode what nobody could answer before: the keys that would have asked are typed.
function M.ask_again()
  ask(AUTOMATIC)
end

--- Asks at once, because the user wants a suggestion here.
function M.ask_now()
  stop_timer()
  ask(INVOKED)
end

return M
