--- Running servers, and what differs between the versions of Neovim in talking to them.
local say = require('intract.say')

local M = {}

--- Name of the configuration and of its clients.
M.NAME = 'intract'

--- Versions of the server from this one on have what this plugin calls.
M.OLDEST = '0.1.0'

local HAS_METHODS = vim.fn.has('nvim-0.11') == 1

--- Calls a method of a client; before Neovim 0.11 these were plain functions.
---
---@param client vim.lsp.Client
---@param name string
---@param ... any
---@return any, any
local function call(client, name, ...)
  if HAS_METHODS then
    return client[name](client, ...)
  end
  return client[name](...)
end

--- Returns our clients: those of a buffer, or all.
---
---@param bufnr? integer
---@return vim.lsp.Client[]
function M.clients(bufnr)
  return vim.lsp.get_clients({ name = M.NAME, bufnr = bufnr })
end

--- Returns the client that a command goes to: the current buffer's, or any.
---
---@return vim.lsp.Client?
function M.client()
  return M.clients(vim.api.nvim_get_current_buf())[1] or M.clients()[1]
end

--- Makes JSON's null the absence of a value, as it is in Neovim before 0.12.
---
---@param value any
---@return any
function M.without_nulls(value)
  if value == vim.NIL then
    return nil
  end
  if type(value) == 'table' then
    for key, member in pairs(value) do
      value[key] = M.without_nulls(member)
    end
  end
  return value
end

---@param client vim.lsp.Client
---@param method string
---@param params table
---@param handler fun(error: lsp.ResponseError?, result: any)
---@param bufnr integer
---@return integer? id of the request; nothing where the server has ended
function M.request(client, method, params, handler, bufnr)
  local sent, id = call(client, 'request', method, params, function(error, result)
    handler(error, M.without_nulls(result))
  end, bufnr)
  return sent and id or nil
end

---@param client vim.lsp.Client
---@param method string
---@param params table
function M.notify(client, method, params)
  call(client, 'notify', method, params)
end

---@param client vim.lsp.Client
---@param id integer
function M.cancel(client, id)
  if not M.is_stopped(client) then
    call(client, 'cancel_request', id)
  end
end

---@param client vim.lsp.Client
---@return boolean
function M.is_stopped(client)
  return call(client, 'is_stopped')
end

---@param client vim.lsp.Client
---@param force? boolean by a signal, without asking
function M.stop(client, force)
  call(client, 'stop', force)
end

--- Returns the commands that a server announces.
---
---@param client vim.lsp.Client
---@return string[]
function M.announced(client)
  return vim.tbl_get(client.server_capabilities or {}, 'executeCommandProvider', 'commands') or {}
end

--- Returns the server's version, or an empty text where it did not say (or Neovim did not keep it: before 0.11).
---
---@param client vim.lsp.Client
---@return string
function M.version(client)
  return vim.tbl_get(client, 'server_info', 'version') or ''
end

---@param command string
---@param argument? table
---@return table
local function params_of(command, argument)
  -- An empty Lua table would be sent as a list.
  return { command = command, arguments = { next(argument or {}) and argument or vim.empty_dict() } }
end

--- Runs one of the server's commands; what goes wrong is told to the user.
---
---@param command string
---@param argument? table
---@param on_result fun(result: table)
function M.execute(command, argument, on_result)
  local client = M.client()
  if not client then
    say.error('no server is running; `:checkhealth intract` says why.')
    return
  end
  if not vim.tbl_contains(M.announced(client), command) then
    say.error(('this server %shas no %s; update intract-lsp.'):format(M.version(client) .. ' ', command))
    return
  end
  M.request(client, 'workspace/executeCommand', params_of(command, argument), function(error, result)
    if error then
      say.error(error.message or 'the server could not do that; `:Intract log` shows why.')
    else
      on_result(result or {})
    end
  end, vim.api.nvim_get_current_buf())
end

--- Returns a command's result, or nothing where none came in time. For completing names, which cannot wait long.
---
---@param command string
---@param milliseconds integer
---@param client? vim.lsp.Client
---@return table?
function M.ask(command, milliseconds, client)
  client = client or M.client()
  if not client or not vim.tbl_contains(M.announced(client), command) then
    return nil
  end
  local reply = call(client, 'request_sync', 'workspace/executeCommand', params_of(command), milliseconds, 0)
  return reply and M.without_nulls(reply.result)
end

return M
