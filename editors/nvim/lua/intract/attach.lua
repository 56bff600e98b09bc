--- What happens in a buffer once the server is attached to it.
--- It is loaded when Neovim starts, so it loads what suggestions need when a server is there.
local say = require('intract.say')
local servers = require('intract.servers')

local M = {}

--- Tells the server where the cursor rests in a buffer, so that it can get ready for a suggestion there.
---
---@param client vim.lsp.Client
---@param bufnr integer
local function follow_cursor(client, bufnr)
  local function tell()
    servers.notify(client, 'intract/cursor', vim.lsp.util.make_position_params(0, client.offset_encoding))
  end
  vim.api.nvim_create_autocmd({ 'BufEnter', 'InsertEnter', 'CursorHold', 'CursorHoldI' }, {
    -- One a buffer: a server that is started again takes the place of the one before.
    group = vim.api.nvim_create_augroup('intract.cursor.' .. bufnr, { clear = true }),
    buffer = bufnr,
    desc = 'Tell intract-lsp where the cursor rests',
    callback = function()
      if not vim.lsp.buf_is_attached(bufnr, client.id) then
        return true
      end
      tell()
    end,
  })
  if vim.api.nvim_get_current_buf() == bufnr then
    tell()
  end
end

--- Tells the server what is copied or cut in a buffer, since that is likely to be adapted somewhere else.
---
---@param client vim.lsp.Client
---@param bufnr integer
local function follow_copies(client, bufnr)
  vim.api.nvim_create_autocmd('TextYankPost', {
    group = vim.api.nvim_create_augroup('intract.copied.' .. bufnr, { clear = true }),
    buffer = bufnr,
    desc = 'Tell intract-lsp what is copied',
    callback = function()
      if not vim.lsp.buf_is_attached(bufnr, client.id) then
        return true
      end
      servers.notify(client, 'intract/copied', {
        textDocument = vim.lsp.util.make_text_document_params(bufnr),
        text = table.concat(vim.v.event.regcontents, '\n'),
        line = math.max(0, vim.api.nvim_buf_get_mark(bufnr, '[')[1] - 1),
      })
    end,
  })
end

---@param client vim.lsp.Client
---@param bufnr integer
local function attach(client, bufnr)
  if not client.server_capabilities.inlineCompletionProvider then
    say.warn_once('this server offers no suggestions: `cmd` is not `intract-lsp serve`, or too old a version.')
    return
  end
  if vim.lsp.inline_completion then
    require('intract.builtin_client').attach(bufnr)
  else
    require('intract.own_client').attach(bufnr)
  end
  follow_cursor(client, bufnr)
  follow_copies(client, bufnr)
  if bufnr == vim.api.nvim_get_current_buf() then
    require('intract.own_client').ask_again()
  end
end

--- Waits for servers to be attached to buffers. An autocommand and not the configuration's `on_attach`, which a user's
--- own one would take the place of.
function M.listen()
  local group = vim.api.nvim_create_augroup('intract.attach', { clear = true })
  vim.api.nvim_create_autocmd('LspAttach', {
    group = group,
    desc = 'Turn the suggestions of intract-lsp on',
    callback = function(event)
      local client = vim.lsp.get_client_by_id(event.data.client_id)
      if client and client.name == servers.NAME then
        attach(client, event.buf)
      end
    end,
  })
  vim.api.nvim_create_autocmd('User', {
    group = group,
    pattern = 'IntractReady',
    desc = 'Ask for what intract-lsp could not answer while its model was loading',
    callback = function(event)
      if vim.lsp.buf_is_attached(0, event.data.client_id) then
        require('intract.own_client').ask_again()
      end
    end,
  })
  vim.api.nvim_create_autocmd('LspDetach', {
    group = group,
    desc = 'Take the suggestion of intract-lsp away',
    callback = function(event)
      local client = vim.lsp.get_client_by_id(event.data.client_id)
      if client and client.name == servers.NAME then
        require('intract.own_client').abort()
        pcall(vim.api.nvim_del_augroup_by_name, 'intract.suggest.' .. event.buf)
      end
    end,
  })
end

return M
