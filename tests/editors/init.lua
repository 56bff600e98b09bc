-- Neovim as a user would set it up by editors/nvim/README.md; the tests choose the server's command and options.
local root = vim.fn.fnamemodify(debug.getinfo(1, 'S').source:sub(2), ':p:h:h:h')
vim.opt.runtimepath:append(root .. '/editors/nvim')
vim.opt.swapfile = false
vim.opt.shortmess:append('I')
-- A long message would otherwise wait for Enter, and every call of the tests with it.
vim.opt.messagesopt = 'wait:0,history:500'

vim.lsp.config('intract', {
  cmd = vim.json.decode(vim.env.TEST_SERVER_COMMAND),
  init_options = vim.json.decode(vim.env.TEST_SERVER_OPTIONS),
})
vim.lsp.enable('intract')
vim.keymap.set('i', '<Tab>', function()
  return require('intract').accept('<Tab>')
end, { expr = true, desc = 'Accept the suggestion' })
