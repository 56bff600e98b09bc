--- About suggestions and the server itself.
local format = require('intract.format')
local page = require('intract.page')
local say = require('intract.say')
local server = require('intract.server')
local servers = require('intract.servers')
local status = require('intract.status')

--- Stages of a request, in their order.
local STAGES = { 'queue', 'retrieve', 'tokenize', 'prefill', 'decode', 'filter', 'total' }

---@param timings? table<string, number>
---@return string
local function stages(timings)
  local parts = {}
  for _, name in ipairs(STAGES) do
    local milliseconds = timings and timings[name]
    if milliseconds and milliseconds > 0 then
      parts[#parts + 1] = ('%s %.0f ms'):format(name, milliseconds)
    end
  end
  return table.concat(parts, ', ')
end

---@param index table of intract.status
---@return string
local function index_line(index)
  local size = format.size(index.diskBytes)
  return ('%s: %d files, %d pieces, %s'):format(index.state, index.files, index.chunks, size)
end

---@param values table of intract.status
---@return string[]
local function status_lines(values)
  local engine, index, training = values.engine, values.index, values.training
  local shown = values.shownMilliseconds
  local shape = {}
  for _, part in ipairs({ engine.device, engine.precision, engine.threads > 0 and engine.threads .. ' threads' or '' }) do
    shape[#shape + 1] = part ~= '' and part ~= 'none' and part or nil
  end
  local off = table.concat(values.disabledLanguages, ', ')
  return format.columns({
    { 'state', status.present(values, vim.bo.filetype).sentence },
    { 'model', engine.model .. (#shape > 0 and (' (%s)'):format(table.concat(shape, ', ')) or '') },
    { 'adapter', values.model.adapter },
    { 'suggestions', values.enabled and 'on' or 'off' },
    { 'off for', off },
    { 'answered', ('%d requests, %d by the model'):format(values.answered, values.modelCalls) },
    { 'accepted', values.accepted },
    { 'time', shown and ('median %.0f ms, 95th percentile %.0f ms'):format(shown.p50, shown.p95) },
    { 'index', index and index_line(index) or 'none' },
    { 'fine-tuning', training and ('%s: %s'):format(training.state, training.message) },
  })
end

---@param answer table of intract.why
---@return string[]
local function why_lines(answer)
  local lines = { answer.message }
  if not answer.uri then
    return lines
  end
  lines[#lines + 1] = ''
  vim.list_extend(
    lines,
    format.columns({
      { 'file', vim.fn.fnamemodify(vim.uri_to_fname(answer.uri), ':~:.') },
      { 'reason', answer.reason },
      { 'from', answer.source },
      { 'time', stages(answer.timings) },
      {
        'tokens',
        answer.promptTokens > 0
          and ('%d in the prompt, %d of them computed before, %d generated'):format(
            answer.promptTokens,
            answer.reusedTokens,
            answer.generatedTokens
          ),
      },
    })
  )
  if #(answer.context or {}) > 0 then
    vim.list_extend(lines, { '', 'Pieces of other files that the model was shown:' })
    for _, piece in ipairs(answer.context) do
      local from = table.concat(piece.sources, ', ')
      lines[#lines + 1] = ('  %s:%d-%d  (%s)'):format(piece.path, piece.start_line, piece.end_line, from)
    end
  end
  return lines
end

--- Returns why this buffer gets no suggestion that the server could not know of.
---
---@return string?
local function reason_here()
  if #servers.clients(vim.api.nvim_get_current_buf()) > 0 then
    return nil
  end
  if not server.takes(0) then
    return ('This buffer is larger than %s, so the server is not attached to it.'):format(format.size(server.MOST_BYTES))
  end
  local problem = server.problem()
  if problem then
    return 'The server cannot be started: ' .. problem
  end
  if vim.bo.buftype ~= '' or vim.bo.filetype == '' then
    return 'This buffer is no file with a filetype, so the server is not attached to it.'
  end
  return 'The server is not attached to this buffer; `:Intract restart` starts it, `:checkhealth intract` says more.'
end

--- Stops something that the server shows the progress of, by what Neovim remembers of such progress.
local function cancel()
  local client = servers.client()
  local running = {} ---@type { token: integer|string, title: string }[]
  for token, title in pairs(client and client.progress.pending or {}) do
    running[#running + 1] = { token = token, title = tostring(title) }
  end
  if not client or #running == 0 then
    say.info('nothing is going on that could be stopped.')
    return
  end
  vim.ui.select(running, {
    prompt = 'Stop',
    format_item = function(item)
      return item.title
    end,
  }, function(item)
    if item then
      servers.notify(client, 'window/workDoneProgress/cancel', { token = item.token })
    end
  end)
end

--- Returns where the server keeps its log, by the platform's conventions.
---
---@return string
local function log_path()
  local home, name = vim.env.INTRACT_HOME, 'intract-lsp'
  if home then
    return vim.fs.joinpath(vim.fn.expand(home), 'logs', 'server.log')
  elseif vim.fn.has('mac') == 1 then
    return vim.fs.joinpath(vim.fn.expand('~/Library/Logs'), name, 'server.log')
  elseif vim.fn.has('win32') == 1 then
    return vim.fs.joinpath(vim.env.LOCALAPPDATA, name, 'Logs', 'server.log')
  end
  return vim.fs.joinpath(vim.env.XDG_STATE_HOME or vim.fn.expand('~/.local/state'), name, 'log', 'server.log')
end

--- Opens the server's log; where none is running Neovim's, which has what a server printed when it failed.
local function open_log()
  local path = log_path()
  if not servers.client() or not vim.uv.fs_stat(path) then
    path = vim.fs.joinpath(vim.fn.stdpath('log'), 'lsp.log')
  end
  vim.cmd.tabedit(vim.fn.fnameescape(path))
  vim.cmd('normal! G')
end

---@type table<string, intract.Command>
return {
  status = {
    about = 'show the model, the index, what was answered',
    server = 'intract.status',
    run = function()
      servers.execute('intract.status', nil, function(values)
        page.open('intract', status_lines(values))
      end)
    end,
  },
  why = {
    about = 'say why the last request here showed nothing, or where its time went',
    server = 'intract.why',
    run = function()
      local reason = reason_here()
      if reason then
        page.open('intract: why', { reason })
        return
      end
      servers.execute('intract.why', { uri = vim.uri_from_bufnr(0) }, function(answer)
        page.open('intract: why', why_lines(answer))
      end)
    end,
  },
  toggle = {
    about = 'switch suggestions off or on',
    server = 'intract.toggle',
    run = function()
      require('intract').toggle()
    end,
  },
  ['clear-cache'] = {
    about = 'forget the suggestions of this session',
    server = 'intract.clearCache',
    run = function()
      servers.execute('intract.clearCache', nil, function(result)
        say.info(result.message)
      end)
    end,
  },
  cancel = { about = 'stop a download, the indexing or a run', run = cancel },
  log = { about = 'open the log', run = open_log },
  restart = {
    about = 'end the server and start it again',
    run = function()
      server.restart()
      say.info('the server is started again.')
    end,
  },
}
