-- The command and the mappings; everything else is loaded when one of them is used.
if vim.g.loaded_intract or vim.fn.has('nvim-0.10') == 0 then
  return
end
vim.g.loaded_intract = true

vim.api.nvim_create_user_command('Intract', function(call)
  require('intract.commands').run(call.fargs, call.bang)
end, {
  nargs = '*',
  bang = true,
  desc = 'Commands of intract-lsp',
  complete = function(_, line, position)
    return require('intract.commands').complete(line:sub(1, position))
  end,
})

for name, call in pairs({
  accept = 'accept',
  ['accept-word'] = 'accept_word',
  ['accept-line'] = 'accept_line',
  next = 'next',
  prev = 'prev',
  dismiss = 'dismiss',
  suggest = 'suggest',
}) do
  vim.keymap.set('i', ('<Plug>(intract-%s)'):format(name), function()
    require('intract')[call]()
  end, { desc = 'intract: ' .. name:gsub('-', ' ') })
end
