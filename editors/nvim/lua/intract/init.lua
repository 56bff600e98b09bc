--- intract-lsp in Neovim: what mappings, status lines and configurations call. See `:help intract`.

local M = {}

---@class intract.Options
---@field cmd? string[] the program and its arguments; by default `intract-lsp serve`
---@field settings? table the server's settings, by section and name
---@field filetypes? string[] where it is to suggest; by default everywhere
---@field root_markers? string[] files that mark a workspace's root

local OPTIONS = { cmd = 'table', settings = 'table', filetypes = 'table', root_markers = 'table' }

--- Sets up and starts the server. Needed in Neovim 0.10; in newer versions `vim.lsp.enable('intract')` does the same.
---
---@param options? intract.Options
function M.setup(options)
  local say = require('intract.say')
  local config = {}
  for name, value in pairs(options or {}) do
    if not OPTIONS[name] then
      say.error(('setup() knows no option %q; there are %s.'):format(name, table.concat(vim.tbl_keys(OPTIONS), ', ')))
    elseif type(value) ~= OPTIONS[name] then
      say.error(('the option %q of setup() must be a %s; it is left out.'):format(name, OPTIONS[name]))
    else
      config[name] = value
    end
  end
  if config.settings then
    config.settings = { intract = config.settings }
  end
  require('intract.server').enable(config)
end

---@param piece intract.Piece
---@param key? string
---@return string
local function accept(piece, key)
  key = key or ''
  local accepted = require('intract.accept').from_mapping(piece) or require('intract.builtin_client').accept(piece, key)
  return accepted and '' or key
end

--- Accepts the suggestion at the cursor; made for an insert-mode mapping with `expr = true`.
---
---@param key? string what to type where there is no suggestion, for example '<Tab>'
---@return string keys for the mapping to type
function M.accept(key)
  return accept('all', key)
end

--- Accepts the next word of the suggestion; the rest of it stays.
---
---@param key? string
---@return string keys
function M.accept_word(key)
  return accept('word', key)
end

--- Accepts the suggestion up to the end of a line; the rest of it stays.
---
---@param key? string
---@return string keys
function M.accept_line(key)
  return accept('line', key)
end

---@param step integer
local function cycle(step)
  if require('intract.ghost').current() then
    require('intract.ghost').cycle(step)
  else
    require('intract.builtin_client').cycle(step)
  end
end

--- Shows the next of several suggestions.
function M.next()
  cycle(1)
end

--- Shows the previous one.
function M.prev()
  cycle(-1)
end

--- Takes the suggestion away until something else is typed.
---
---@param key? string what to type where there was none, for example '<C-e>'
---@return string keys for the mapping to type
function M.dismiss(key)
  local was_visible = M.visible()
  require('intract.own_client').abort()
  require('intract.builtin_client').dismiss()
  return was_visible and '' or key or ''
end

--- Asks for a suggestion here and now, where none came by itself.
function M.suggest()
  require('intract.builtin_client').dismiss()
  -- Behind what the line before has put off.
  vim.schedule(require('intract.own_client').ask_now)
end

--- Whether a suggestion is shown in the current buffer.
---
---@return boolean
function M.visible()
  return require('intract.ghost').current() ~= nil or require('intract.builtin_client').is_visible()
end

--- Switches suggestions off or on, until the server ends.
---
---@param enabled? boolean the other way round by default
function M.toggle(enabled)
  require('intract.servers').execute('intract.toggle', { enabled = enabled }, function(result)
    if not result.enabled then
      M.dismiss()
    end
    require('intract.say').info(result.message)
  end)
end

--- Returns a short text for the status line; empty in buffers without the server.
---
---@param bufnr? integer
---@return string
function M.statusline(bufnr)
  return require('intract.status').of_buffer(bufnr).text
end

return M
