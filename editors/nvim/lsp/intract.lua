--- @brief
---
--- Inline completions (ghost text) from a code model on your own machine, by the language server `intract-lsp`.
--- Neovim 0.12 shows them with its own client (`:help lsp-inline_completion`), 0.11 with one that comes with this
--- configuration, 0.10 with `require('intract').setup()` in place of `vim.lsp.enable`.
---
--- ```lua
--- vim.lsp.enable('intract')
--- vim.keymap.set('i', '<Tab>', function()
---   return require('intract').accept('<Tab>')
--- end, { expr = true, desc = 'Accept the suggestion' })
--- ```
---
--- Settings, by section and name as `intract-lsp config show` lists them:
---
--- ```lua
--- vim.lsp.config('intract', { settings = { intract = { completion = { multi_line = 'never' } } } })
--- ```

local server = require('intract.server')

-- Neovim says nothing where the program is missing; this file is read when the first server is about to start.
vim.schedule(server.check)

-- No `filetypes`: a code model completes any text, and the setting completion.disabled_languages excludes some.
---@type vim.lsp.Config
return server.config()
