-- Neovim as a user would set it up by editors/nvim/README.md; the tests choose the server's command and options.
local root = vim.fn.fnamemodify(debug.getinfo(1, 'S').source:sub(2), ':p:h:h:h')
vim.opt.runtimepath:append(root .. '/editors/nvim')
vim.opt.swapfile = false
-- Neovim's own file type plugins look for one, which takes seconds.
vim.g.loaded_python3_provider = 0
vim.opt.shortmess:append('I')
-- A long message would otherwise wait for Enter, and every call of the tests with it.
if vim.fn.exists('+messagesopt') == 1 then
  vim.opt.messagesopt = 'wait:0,history:500'
else
  vim.o.cmdheight = 8
  vim.o.more = false
end

local cmd, settings = vim.json.decode(vim.env.TEST_SERVER_COMMAND), vim.json.decode(vim.env.TEST_SERVER_OPTIONS)
if vim.lsp.config then
  vim.lsp.config('intract', { cmd = cmd, settings = { intract = settings } })
  vim.lsp.enable('intract')
else
  require('intract').setup({ cmd = cmd, settings = settings })
end
for key, accept in pairs({ ['<Tab>'] = 'accept', ['<C-l>'] = 'accept_word', ['<C-j>'] = 'accept_line' }) do
  vim.keymap.set('i', key, function()
    return require('intract')[accept](key)
  end, { expr = true })
end
for key, name in pairs({ ['<M-n>'] = 'next', ['<M-p>'] = 'prev', ['<M-s>'] = 'suggest' }) do
  vim.keymap.set('i', key, ('<Plug>(intract-%s)'):format(name))
end
vim.keymap.set('i', '<C-e>', function()
  return require('intract').dismiss('<C-e>')
end, { expr = true })
vim.o.statusline = "%f %{v:lua.require'intract'.statusline()}"
