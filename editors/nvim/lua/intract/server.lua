--- The server: its configuration for `vim.lsp`, how it is started, and started again when it crashed.
local attach = require('intract.attach')
local say = require('intract.say')
local servers = require('intract.servers')

local M = {}

--- Bytes of the largest buffer that the server is attached to. All of a buffer is sent to it, and a model sees some
--- thousand characters of it in any case.
M.MOST_BYTES = 4 * 1024 * 1024

--- Milliseconds before the first, the second, … new start of a server that crashed; after the last it stays off.
local RESTARTS = { 500, 1000, 2000 }
--- Seconds after which a crash does not count any more.
local CRASH_MEMORY = 180

---@type integer[] When servers crashed, in seconds of a monotonic clock.
local crashes = {}

--- Whether this Neovim keeps configurations by name (0.11 and newer).
local HAS_CONFIG = vim.lsp.config ~= nil

---@type vim.lsp.ClientConfig? What `setup` was given, where Neovim cannot keep it.
local own_config

--- Returns the program: as found in PATH, else where pipx and uv put programs.
---
---@return string
local function program()
  local name = 'intract-lsp'
  local of_user = vim.fs.normalize('~/.local/bin/' .. name)
  return vim.fn.executable(name) == 0 and vim.fn.executable(of_user) == 1 and of_user or name
end

--- Whether a buffer is small enough.
---
---@param bufnr integer
---@return boolean
function M.takes(bufnr)
  return vim.api.nvim_buf_get_offset(bufnr, vim.api.nvim_buf_line_count(bufnr)) <= M.MOST_BYTES
end

--- Sections without a setting are empty Lua tables, which would be sent as lists.
---
---@param settings table
---@return table
local function as_object(settings)
  local object = vim.empty_dict()
  for section, values in pairs(settings) do
    object[section] = values
    if type(values) == 'table' and next(values) == nil then
      object[section] = vim.empty_dict()
    end
  end
  return object
end

--- Hands the settings over at once, so that no other model is loaded first.
---
---@param params lsp.InitializeParams
---@param config vim.lsp.ClientConfig
local function before_init(params, config)
  local settings = config.init_options
  local section = type(config.settings) == 'table' and config.settings.intract
  if type(section) == 'table' and (settings == nil or type(settings) == 'table') then
    settings = vim.tbl_deep_extend('force', settings or {}, section)
  end
  params.initializationOptions = type(settings) == 'table' and as_object(settings) or settings
  if not vim.lsp.inline_completion then
    -- The server takes off what Neovim's own client waits for before it asks; ours leaves the waiting to the server.
    params.clientInfo = { name = 'intract.nvim', version = tostring(vim.version()) }
  end
end

---@param _ vim.lsp.Client
---@param result lsp.InitializeResult
local function on_init(_, result)
  local version = vim.tbl_get(result, 'serverInfo', 'version')
  if version and vim.version.lt(version, servers.OLDEST) then
    local message = 'intract-lsp %s is too old for this plugin, which needs %s: %s.'
    say.warn_once(message:format(version, servers.OLDEST, '`pip install --upgrade intract-lsp`'))
  end
end

---@param code integer
---@param signal integer
---@param client_id integer
local function on_exit(code, signal, client_id)
  require('intract.status').forget(client_id)
  -- SIGTERM is how Neovim ends a server that takes its time.
  local wanted = (code == 0 and signal == 0) or signal == 15 or code == 143 or vim.v.exiting ~= vim.NIL
  if wanted then
    return
  end
  vim.schedule(function()
    local now = math.floor(vim.uv.hrtime() / 1e9)
    crashes = vim.tbl_filter(function(at)
      return now - at < CRASH_MEMORY
    end, crashes)
    crashes[#crashes + 1] = now
    local wait = RESTARTS[#crashes]
    if wait then
      vim.defer_fn(M.start, wait)
    else
      local ways = '`:Intract log` shows why, `:Intract restart` starts it.'
      say.error(('the server ended by itself %d times and stays off: %s'):format(#crashes, ways))
    end
  end)
end

--- Returns the configuration that `lsp/intract.lua` hands to Neovim.
---
---@return vim.lsp.Config
function M.config()
  attach.listen()
  return {
    cmd = { program(), 'serve' },
    root_markers = { '.intract.toml', '.git' },
    -- The markers say where the root is; what is decided here is whether there is a server at all.
    root_dir = function(bufnr, on_dir)
      if M.takes(bufnr) then
        on_dir()
      end
    end,
    -- Neovim before 0.12 does not say so by itself.
    capabilities = { textDocument = { inlineCompletion = { dynamicRegistration = false } } },
    before_init = before_init,
    on_init = on_init,
    on_exit = on_exit,
    handlers = {
      ['intract/status'] = function(_, result, context)
        require('intract.status').receive(servers.without_nulls(result), context.client_id)
      end,
    },
  }
end

--- Returns the configuration in force.
---
---@return table?
function M.current()
  if HAS_CONFIG then
    return vim.lsp.config[servers.NAME]
  end
  return own_config
end

--- Returns why the server cannot be started, if so.
---
---@return string? problem
function M.problem()
  local config = M.current()
  if not config then
    return "it is not set up: call `require('intract').setup()`."
  end
  local name = type(config.cmd) == 'table' and config.cmd[1]
  if name and vim.fn.executable(name) == 0 then
    local way = 'install it (`pip install intract-lsp`), or give its path in `cmd`; see `:help intract-install`.'
    return ('the program %s was not found: %s'):format(name, way)
  end
end

--- Says once what keeps the server from starting; Neovim itself would be silent.
function M.check()
  local enabled = not HAS_CONFIG or not vim.lsp.is_enabled or vim.lsp.is_enabled(servers.NAME)
  local problem = enabled and M.problem()
  if problem then
    say.warn_once(problem)
  end
end

---@param bufnr integer
local function start_for(bufnr)
  local config = M.current()
  local wanted = config
    and vim.api.nvim_buf_is_loaded(bufnr)
    and vim.bo[bufnr].buftype == ''
    and vim.bo[bufnr].filetype ~= ''
    and (not config.filetypes or vim.tbl_contains(config.filetypes, vim.bo[bufnr].filetype))
    and #vim.lsp.get_clients({ bufnr = bufnr, name = servers.NAME, _uninitialized = true }) == 0
    and M.takes(bufnr)
  if not config or not wanted or M.problem() then
    return
  end
  config = vim.deepcopy(config)
  config.name = servers.NAME
  if type(config.root_dir) ~= 'string' then
    config.root_dir = vim.fs.root(bufnr, config.root_markers or {})
  end
  vim.lsp.start(config, { bufnr = bufnr, reuse_client = config.reuse_client })
end

--- Starts what is missing for the buffers that are open.
function M.start()
  M.check()
  for _, bufnr in ipairs(vim.api.nvim_list_bufs()) do
    start_for(bufnr)
  end
end

--- Ends all servers and starts them again, crashes forgotten.
function M.restart()
  crashes = {}
  local clients = servers.clients()
  for _, client in ipairs(clients) do
    servers.stop(client)
  end
  local function go_on(tries)
    local alive = vim.tbl_filter(function(client)
      return vim.lsp.get_client_by_id(client.id) ~= nil
    end, clients)
    if #alive == 0 then
      M.start()
    elseif tries > 0 then
      vim.defer_fn(function()
        go_on(tries - 1)
      end, 50)
    else
      for _, client in ipairs(alive) do
        servers.stop(client, true)
      end
      vim.defer_fn(M.start, 500)
    end
  end
  go_on(100)
end

--- Sets up and starts the server where Neovim keeps configurations; else keeps the configuration itself.
---
---@param config vim.lsp.Config
function M.enable(config)
  if HAS_CONFIG then
    vim.lsp.config(servers.NAME, config)
    vim.lsp.enable(servers.NAME)
    return
  end
  own_config = vim.tbl_deep_extend('force', M.config(), config)
  own_config.root_dir = config.root_dir
  -- This Neovim would start another server, with another model in memory, for each file without a root.
  own_config.reuse_client = function(client, wanted)
    return client.name == wanted.name and client.config.root_dir == wanted.root_dir
  end
  own_config.capabilities =
    vim.tbl_deep_extend('force', vim.lsp.protocol.make_client_capabilities(), own_config.capabilities)
  vim.api.nvim_create_autocmd('FileType', {
    group = vim.api.nvim_create_augroup('intract.start', { clear = true }),
    desc = 'Start intract-lsp',
    callback = function(event)
      M.check()
      start_for(event.buf)
    end,
  })
  M.start()
end

return M
