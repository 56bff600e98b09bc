--- `:checkhealth intract`.
local format = require('intract.format')
local server = require('intract.server')
local servers = require('intract.servers')
local status = require('intract.status')

local M = {}

local PATIENCE = 5000

local function check_neovim()
  vim.health.start('intract: Neovim')
  local version = tostring(vim.version())
  if vim.fn.has('nvim-0.10') == 0 then
    vim.health.error(version .. ' is too old', 'Install Neovim 0.10 or newer.')
  elseif vim.lsp.inline_completion then
    vim.health.ok(version .. ' shows suggestions with its own client')
  else
    vim.health.ok(version .. ' shows suggestions with the client of this plugin')
  end
end

--- Returns what to tell of a version that a server's program printed.
---
---@param command string[]
local function check_program(command)
  local words = { command[1] }
  -- `python -m intract_lsp serve` and the like: all but what comes from `serve` on.
  for index = 2, #command do
    if command[index] == 'serve' then
      break
    end
    words[index] = command[index]
  end
  words[#words + 1] = '--version'
  local ran, done = pcall(function()
    return vim.system(words, { text = true, timeout = PATIENCE }):wait()
  end)
  local version = ran and done.code == 0 and done.stdout:match('%d+%.%d+%.?%d*')
  local path = vim.fn.exepath(command[1])
  if not version then
    vim.health.error(path .. ' does not say its version', {
      ('Run `%s` in a terminal to see why.'):format(table.concat(words, ' ')),
      'Install it again: `pip install --upgrade intract-lsp`.',
    })
  elseif vim.version.lt(version, servers.OLDEST) then
    vim.health.error(('%s is version %s; this plugin needs %s'):format(path, version, servers.OLDEST), {
      'Update it: `pip install --upgrade intract-lsp`.',
    })
  else
    vim.health.ok(('%s, version %s'):format(path, version))
  end
end

local function check_server()
  vim.health.start('intract: the server')
  local config = server.current()
  local problem = server.problem()
  if problem or not config then
    vim.health.error(problem or 'it is not set up', { 'See `:help intract-install`.' })
    return
  end
  if type(config.cmd) == 'table' then
    check_program(config.cmd)
  else
    vim.health.info('`cmd` is a function, so the program cannot be asked for its version')
  end
  if vim.lsp.is_enabled and not vim.lsp.is_enabled(servers.NAME) then
    vim.health.warn('it is not enabled', "Call `vim.lsp.enable('intract')` in your init.lua.")
  end
end

---@param values table of intract.status
local function check_engine(values)
  local shown = status.present(values, '')
  if shown.state == 'error' or shown.state == 'no model' then
    vim.health.error(shown.sentence, {
      'Choose another model with `:Intract model`.',
      'Run `intract-lsp doctor` in a terminal: it says what was found and what is wrong.',
    })
  elseif shown.state == 'paused' then
    vim.health.warn(shown.sentence)
  else
    vim.health.ok(shown.sentence)
  end
  local index = values.index
  if not index then
    vim.health.info('no folder is indexed: there is no workspace root, or index.enabled is off')
  elseif index.state == 'failed' then
    vim.health.error('the index: ' .. index.message, '`:Intract index reindex` builds it anew.')
  else
    vim.health.ok(('the index holds %d files (%s)'):format(index.files, format.size(index.diskBytes)))
  end
end

---@param client vim.lsp.Client
local function check_client(client)
  local count = vim.tbl_count(client.attached_buffers)
  local root = client.root_dir or (client.config or {}).root_dir
  local place = root and vim.fn.fnamemodify(root, ':~') or 'files without a root'
  vim.health.start('intract: the server of ' .. place)
  vim.health.ok(('attached to %d buffer%s'):format(count, count == 1 and '' or 's'))
  local values = servers.ask('intract.status', PATIENCE, client)
  if not values then
    vim.health.error('it does not answer', { '`:Intract restart` starts it again.', '`:Intract log` may show why.' })
    return
  end
  check_engine(values)
  local why = servers.ask('intract.why', PATIENCE, client)
  if why then
    vim.health.info('last request: ' .. why.message)
  end
end

--- Says what is wrong, if anything, and what to do about it.
function M.check()
  check_neovim()
  check_server()
  local clients = servers.clients()
  for _, client in ipairs(clients) do
    check_client(client)
  end
  if #clients == 0 then
    vim.health.start('intract: running servers')
    vim.health.info('none: one starts with the first file that has a filetype')
  end
end

return M
