--- @brief
---
--- Inline completions (ghost text) from a code model on your own machine, by the language server `intract-lsp`.
--- Needs Neovim 0.12 or newer, whose built-in client shows them: see `:help lsp-inline_completion`.
---
--- ```lua
--- vim.lsp.enable('intract')
--- vim.keymap.set('i', '<Tab>', function()
---   return require('intract').accept('<Tab>')
--- end, { expr = true, desc = 'Accept the suggestion' })
--- ```
---
--- Settings go into `init_options`, by section and name as `intract-lsp config show` lists them:
---
--- ```lua
--- vim.lsp.config('intract', { init_options = { completion = { multi_line = 'never' } } })
--- ```

--- Tells the server where the cursor rests in a buffer, so that it can get ready for a suggestion there.
---
---@param client vim.lsp.Client
---@param bufnr integer
local function follow_cursor(client, bufnr)
  local function tell()
    client:notify('intract/cursor', vim.lsp.util.make_position_params(0, client.offset_encoding), bufnr)
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
      client:notify('intract/copied', {
        textDocument = vim.lsp.util.make_text_document_params(bufnr),
        text = table.concat(vim.v.event.regcontents, '\n'),
        line = math.max(0, vim.api.nvim_buf_get_mark(bufnr, '[')[1] - 1),
      }, bufnr)
    end,
  })
end

--- Turns suggestions on for one buffer; they stay off in buffers that this server is not attached to.
---
---@param client vim.lsp.Client
---@param bufnr integer
local function on_attach(client, bufnr)
  if vim.fn.has('nvim-0.12') == 0 then
    vim.notify_once('intract: suggestions need Neovim 0.12 or newer.', vim.log.levels.WARN)
    return
  end
  if client:supports_method('textDocument/inlineCompletion', bufnr) then
    vim.lsp.inline_completion.enable(true, { bufnr = bufnr })
    follow_cursor(client, bufnr)
    follow_copies(client, bufnr)
  end
end

-- No `filetypes`: a code model completes any text, and the setting completion.disabled_languages excludes some.
---@type vim.lsp.Config
return {
  cmd = { 'intract-lsp', 'serve' },
  root_markers = { '.intract.toml', '.git' },
  on_attach = on_attach,
}
