--- `:Intract`: its subcommands, and how they are completed.
local M = {}

--- One subcommand. It has either subcommands of its own or work to do.
---
---@class intract.Command
---@field about string what it does
---@field server? string the server's command that it leads to
---@field run? fun(arguments: string[], bang: boolean)
---@field names? fun(): string[] what its first argument may be
---@field sub? table<string, intract.Command>
---@field default? string of `sub`, where none is named

---@type table<string, intract.Command>
M.tree = vim.tbl_extend(
  'error',
  require('intract.commands.session'),
  require('intract.commands.model'),
  { index = require('intract.commands.index') },
  { finetune = require('intract.commands.finetune') },
  { adapters = require('intract.commands.adapters') }
)

---@param commands table<string, intract.Command>
---@return string[]
local function names(commands)
  local list = vim.tbl_keys(commands)
  table.sort(list)
  return list
end

--- Runs `:Intract ARGUMENTS`.
---
---@param arguments string[]
---@param bang boolean do not ask before something is destroyed
function M.run(arguments, bang)
  local commands, said = M.tree, ':Intract'
  local rest = vim.list_slice(arguments, 1)
  local name = table.remove(rest, 1) or 'status'
  while true do
    local command = commands[name]
    if not command then
      local known = table.concat(names(commands), ', ')
      require('intract.say').error(('%s knows no %q; there are %s.'):format(said, name, known))
      return
    end
    if command.run then
      command.run(rest, bang)
      return
    end
    commands, said = command.sub, said .. ' ' .. name
    name = table.remove(rest, 1) or command.default
  end
end

--- Returns what the last word of a command line may be.
---
---@param line string up to the cursor
---@return string[]
function M.complete(line)
  local words = vim.split(line:gsub('^.-Intract!?', '', 1), '%s+', { trimempty = false })
  -- The first one stands before the blank behind `Intract`.
  table.remove(words, 1)
  local begun = table.remove(words) or ''
  local commands, candidates = M.tree, nil
  for _, word in ipairs(words) do
    local command = commands and commands[word]
    commands = command and command.sub
    candidates = command and command.names
  end
  local list = commands and names(commands) or {}
  if not commands and candidates and #words <= 2 then
    list = candidates()
  end
  return vim.tbl_filter(function(name)
    return vim.startswith(name, begun)
  end, list)
end

return M
