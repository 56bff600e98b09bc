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
  end
end

-- No `filetypes`: a code model completes any text, and the setting completion.disabled_languages excludes some.
---@type vim.lsp.Config
return {
  cmd = { 'intract-lsp', 'serve' },
  root_markers = { '.intract.toml', '.git' },
  on_attach = on_attach,
}
